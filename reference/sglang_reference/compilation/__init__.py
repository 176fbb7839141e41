"""``sglang.srt.compilation``: compiling a model in pieces, as far as a platform takes part."""
