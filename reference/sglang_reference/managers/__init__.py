"""``sglang.srt.managers``: who takes requests, makes batches of them, and has them computed."""
