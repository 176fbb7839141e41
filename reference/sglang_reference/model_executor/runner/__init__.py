"""``sglang.srt.model_executor.runner``: what runs a batch, eagerly or from graphs (0.5.14 and later)."""
