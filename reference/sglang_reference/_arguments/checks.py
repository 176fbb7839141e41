"""What SGLang checks of resolved arguments before it starts a server (``check_server_args``).

Facts: 0.5.11, srt/server_args.py; 0.5.23, srt/arg_groups/validation_hook.py. Here are those of settings that the
reference serves; they are assertions there, too.
"""

from __future__ import annotations

from typing import Any

from .resolving import settled


def check(arguments: Any) -> None:
    """Raise AssertionError or ValueError where the settings contradict one another."""
    values = settled(arguments)
    assert (values.tp_size * values.pp_size) % values.nnodes == 0, "tp_size must be divisible by number of nodes"
    assert values.pp_max_micro_batch_size is None or values.pp_max_micro_batch_size >= 1, (
        f"pp_max_micro_batch_size must be positive or None, not {values.pp_max_micro_batch_size}"
    )
    if values.pp_size > 1:
        assert values.disable_overlap_schedule, "Pipeline parallelism is not compatible with overlap schedule"
        assert values.speculative_algorithm is None, "Pipeline parallelism is not compatible with speculative decoding"
    assert values.base_gpu_id >= 0, "base_gpu_id must be non-negative"
    assert values.gpu_id_step >= 1, "gpu_id_step must be positive"
    assert ":" not in values.served_model_name, f"a colon in served_model_name: {values.served_model_name!r}"
    if values.chunked_prefill_size > 0 and values.disaggregation_mode != "decode":
        assert values.chunked_prefill_size % values.page_size == 0, (
            f"chunked_prefill_size must be divisible by page_size: {values.chunked_prefill_size}, {values.page_size}"
        )
    assert values.schedule_conservativeness >= 0, "schedule_conservativeness must be non-negative"
