"""``sglang.srt.layers.moe.ep_moe``."""
