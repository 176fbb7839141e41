"""``sglang.srt.models``: the kinds of models that the reference serves."""
