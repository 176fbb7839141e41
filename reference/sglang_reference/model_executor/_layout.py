"""Where a model runner stands among the ranks: from its constructor's arguments, or from the context of the process.

Up to 0.5.15 the ranks and sizes are arguments of their own, from 0.5.16 to 0.5.20 one of them (``ps``), and from 0.5.21
on they are read from ``sglang.srt.runtime_context``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .._arguments.resolving import settled
from .._contract import since
from .._released import Lifetime


@dataclass(frozen=True)
class Layout:
    """Ranks and sizes, by SGLang's names for them."""

    tp_rank: int = 0
    tp_size: int = 1
    pp_rank: int = 0
    pp_size: int = 1
    dp_rank: int | None = None
    dp_size: int = 1
    moe_ep_rank: int = 0
    moe_ep_size: int = 1
    moe_dp_rank: int | None = None
    moe_dp_size: int = 1
    attn_cp_rank: int | None = 0
    attn_cp_size: int = 1
    dcp_size: int = 1

    @property
    def world_size(self) -> int:
        """How many ranks serve one model."""
        return self.tp_size * self.pp_size

    @property
    def world_rank(self) -> int:
        """The number of this rank among them."""
        return self.tp_size * self.pp_rank + self.tp_rank


_OWN = Lifetime(gone="0.5.16")
_AGAIN = Lifetime("0.5.21", gone="0.5.22")
ATTRIBUTES: Mapping[str, tuple[Lifetime, ...]] = {
    **dict.fromkeys(("tp_rank", "tp_size", "pp_rank", "pp_size", "dp_size", "moe_ep_size"), (_OWN, _AGAIN)),
    **dict.fromkeys(("attn_cp_rank", "attn_cp_size"), (_OWN, _AGAIN)),
    **dict.fromkeys(("moe_ep_rank", "moe_dp_rank", "moe_dp_size"), (_OWN,)),
    "dcp_size": (Lifetime("0.5.15", gone="0.5.17"),),
}
"""Which of them a model runner has as attributes of its own, and in which releases."""


def attributes(layout: Layout) -> dict[str, Any]:
    """What the release's model runner tells of its place."""
    values = asdict(layout)
    return {name: values[name] for name, times in ATTRIBUTES.items() if any(each.holds() for each in times)}


def of_arguments(server_args: Any, given: Mapping[str, Any]) -> Layout:
    """The place that the constructor's own arguments tell, up to 0.5.15."""
    values = settled(server_args)
    told = {name: given[name] for name in given if name in Layout.__dataclass_fields__}
    return Layout(
        **told,
        dp_size=values.dp_size if values.enable_dp_attention else 1,
        attn_cp_size=values.attn_cp_size,
        moe_dp_size=values.moe_dp_size,
    )


def of_state(state: Any) -> Layout:
    """The place that a ParallelState tells, from 0.5.16 to 0.5.20."""
    return Layout(**{name: getattr(state, name) for name in Layout.__dataclass_fields__ if hasattr(state, name)})


def of_context() -> Layout:
    """The place that the context of the process tells, from 0.5.21 on."""
    from ..runtime_context import get_parallel

    parallel = get_parallel()
    names = ("tp_rank", "tp_size", "pp_rank", "pp_size", "moe_ep_rank", "moe_ep_size", "moe_dp_size", "attn_cp_size")
    return Layout(**{name: getattr(parallel, name) for name in names})


def of_runner(server_args: Any, state: Any, given: Mapping[str, Any]) -> Layout:
    """The place of a model runner that was made with these arguments, as the release tells it."""
    if since("0.5.21"):
        return of_context()
    return of_state(state) if since("0.5.16") else of_arguments(server_args, given)
