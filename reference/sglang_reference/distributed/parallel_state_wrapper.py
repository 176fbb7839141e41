"""``sglang.srt.distributed.parallel_state_wrapper``: a rank's place as one object (0.5.13 to 0.5.20).

Facts: SGLang 0.5.16, srt/distributed/parallel_state_wrapper.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from .._contract import since
from .._partial import Partial

__all__ = ["ParallelState"]


@dataclass(frozen=True, kw_only=True)
class ParallelState(Partial):
    """Ranks and sizes of every kind of parallelism, and the device's index."""

    tp_rank: int
    tp_size: int
    pp_rank: int
    pp_size: int
    dp_rank: int | None
    dp_size: int
    attn_tp_rank: int
    attn_tp_size: int
    attn_cp_rank: int
    attn_cp_size: int
    if since("0.5.18"):
        attn_dcp_rank: int
        attn_dcp_size: int
    attn_dp_rank: int
    attn_dp_size: int
    moe_ep_rank: int
    moe_ep_size: int
    moe_dp_rank: int | None
    moe_dp_size: int
    if since("0.5.16") and not since("0.5.18"):
        dcp_size: int
    gpu_id: int

    if since("0.5.16"):

        @staticmethod
        def trivial(**overrides: int | None) -> ParallelState:
            """The place of the only rank, but for what is given."""
            alone = {f.name: 1 if f.name.endswith("_size") else 0 for f in fields(ParallelState)}
            return ParallelState(**{**alone, **overrides})  # type: ignore[arg-type]
