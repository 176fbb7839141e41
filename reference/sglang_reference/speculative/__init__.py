"""``sglang.srt.speculative``: as far as a server without a draft model meets it."""
