"""``sglang.srt.model_executor.model_runner_components``: parts of the model runner (0.5.16 and later)."""
