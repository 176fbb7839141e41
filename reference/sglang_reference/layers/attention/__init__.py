"""``sglang.srt.layers.attention``: attention backends, and the register of them."""
