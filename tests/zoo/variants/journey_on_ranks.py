"""Right ways to serve a model on several ranks, other than the simulated plugin's."""

from __future__ import annotations

from zoo.defects.journey_on_ranks import _TOTAL
from zoo.workshop import Edit, Variant

ON_RANKS = tuple(f"JOUR-{number:03}" for number in range(20, 30))
_DEADLINE = 30.0

VARIANTS = (
    Variant(
        "ranks-that-reduce-by-torch-alone",
        ON_RANKS,
        (
            Edit("hardware.py", 'return _installed("sglang_host_nccl")', "return False"),
            Edit("hardware.py", 'return _installed("sglang_host_all_reduce")', "return False"),
        ),
        "without an engine SGLang reduces by torch.distributed (0.5.23, srt/distributed/parallel_state.py)",
        of="sim",
        deadline=_DEADLINE,
    ),
    Variant(
        "second-device-has-a-little-less-memory",
        ON_RANKS[:3],
        (
            Edit(
                "device_mixin.py",
                _TOTAL,
                _TOTAL.replace("return", "whole =") + "        return whole - whole // 16 * (device_id == 1)\n",
            ),
        ),
        "SGLang takes the least of all ranks, and refuses only where it is less than nine tenths of another's",
        of="sim",
        deadline=_DEADLINE,
    ),
)
