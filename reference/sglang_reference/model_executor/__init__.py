"""``sglang.srt.model_executor``: what runs a model: batches, runners, graphs."""
