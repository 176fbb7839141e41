"""``sglang.srt.layers``: what models are made of."""
