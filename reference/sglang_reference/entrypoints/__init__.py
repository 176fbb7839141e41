"""``sglang.srt.entrypoints``: how a server is started."""
