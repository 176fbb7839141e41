"""``sglang.srt.configs``: what a model is, how it is loaded, and onto which device."""
