"""``sglang.srt.model_executor.runner_backend``: how graphs are captured and replayed (0.5.14 and later)."""
