"""``sglang.srt.sampling``: how the next token is chosen."""
