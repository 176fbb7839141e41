"""Groups for a while: one group in the place of another, and a graph captured over all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .._contract import since
from .._released import Lifetime, Parameters, released
from . import parallel_state as state
from ._group import GraphCaptureContext

if TYPE_CHECKING:
    from .parallel_state import GroupCoordinator

# The groups over which a graph is captured, besides those of tensor and pipeline parallelism.
_CAPTURED = (
    *(("_DCP",) if since("0.5.15") else ()),
    *(("_ATTN_TP",) if since("0.5.17") else ()),
    *(("_SHARED_EXPERTS_TP",) if since("0.5.21") else ()),
    "_MOE_EP",
    "_MOE_TP",
)


@contextlib.contextmanager
def graph_capture(stream: Any = None) -> Iterator[GraphCaptureContext]:
    """While a graph is captured, on ``stream`` or one of its own: every group with engines is made ready, once."""
    with contextlib.ExitStack() as stack:
        tensor, pipeline = state.get_tp_group(), state.get_pp_group()
        context = stack.enter_context(tensor.graph_capture(stream=stream))
        others = [getattr(state, variable) for variable in _CAPTURED]
        for group in dict.fromkeys([pipeline, *others]):
            if group is not None and group is not tensor:
                stack.enter_context(group.graph_capture(context))
        yield context


@contextlib.contextmanager
def _stated(**values: Any) -> Iterator[None]:
    """State values in the context for a while, in releases in which groups are asked of it."""
    if not since("0.5.21"):
        yield
        return
    from ..runtime_context import get_parallel

    with get_parallel().override(**values):
        yield


@released(Parameters(lifetimes={"owns_attention": Lifetime("0.5.21")}))
@contextlib.contextmanager
def patch_tensor_parallel_group(tp_group: GroupCoordinator, *, owns_attention: bool) -> Iterator[None]:
    """For a while, another group stands for tensor parallelism, as a draft model needs it.

    With ``owns_attention`` it stands for attention's too, and nothing else divides it. Raises AssertionError inside
    another such scope.
    """
    assert not state._TP_STATE_PATCHED, "the tp_group is already patched"
    size, rank = tp_group.world_size, tp_group.rank_in_group
    values: dict[str, Any] = {"tp_size": size, "tp_rank": rank, "tp_group": tp_group}
    if owns_attention:
        values |= {"attn_tp_size": size, "attn_tp_rank": rank, "attn_tp_group": tp_group}
        values |= {"moe_tp_size": size, "moe_tp_rank": rank, "moe_dp_size": 1}
        for name in ("attn_dp", "attn_cp", "moe_ep"):
            values |= {f"{name}_size": 1, f"{name}_rank": 0}
        values |= {"attn_cp_group": None, "moe_ep_group": None}
    before = state._TP
    state._TP_STATE_PATCHED, state._TP = True, tp_group
    try:
        with _stated(**values):
            yield
    finally:
        state._TP_STATE_PATCHED, state._TP = False, before


@contextlib.contextmanager
def patch_pipeline_parallel_group(pp_group: GroupCoordinator) -> Iterator[None]:
    """For a while, another group stands for pipeline parallelism. Raises AssertionError inside another such scope."""
    assert not state._PP_STATE_PATCHED, "the pp_group is already patched"
    before = state._PP
    state._PP_STATE_PATCHED, state._PP = True, pp_group
    try:
        with _stated(pp_size=pp_group.world_size, pp_rank=pp_group.rank_in_group, pp_group=pp_group):
            yield
    finally:
        state._PP_STATE_PATCHED, state._PP = False, before


@contextlib.contextmanager
def pdmux_prefill_tp_group() -> Iterator[None]:
    """For a while, the duplicate for prefill stands for tensor parallelism. Raises AssertionError without one."""
    assert state._PDMUX_PREFILL_TP_GROUP is not None, "there is no duplicate tp_group; ask for duplicate_tp_group=True"
    with _stated(tp_group=state._PDMUX_PREFILL_TP_GROUP):
        yield
