"""Where a scheduler's process stands: its device and its ranks, and how the release's other parts learn of it.

Up to 0.5.20 ranks are handed from constructor to constructor, as arguments or as a ``ParallelState`` (0.5.16); from
0.5.21 on they stand in ``sglang.srt.runtime_context``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from sglang_reference._errors import not_covered

from .._arguments import fields as arguments
from .._arguments import published
from .._arguments.resolving import settled
from .._contract import since

_ONES = ("dp_size", "attn_cp_size", "moe_dp_size", "dcp_size", "nnodes")


@dataclass(frozen=True)
class Place:
    """A rank's device, and its number in each group."""

    gpu_id: int
    tp_rank: int
    pp_rank: int
    moe_ep_rank: int
    attn_cp_rank: int = 0
    moe_dp_rank: int = 0
    dp_rank: int | None = None


def place_of(server_args: Any, gpu_id: int, tp_rank: int, pp_rank: int) -> Place:
    """The place of a rank. NotCovered for ways of being parallel that are not of tensors, layers and experts."""
    values = settled(server_args)
    for name in _ONES:
        if getattr(values, name, 1) not in (None, 1):
            raise not_covered(f"serving with {name}={getattr(values, name)}")
    return Place(gpu_id, tp_rank, pp_rank, moe_ep_rank=tp_rank // (values.tp_size // values.ep_size))


def publish(server_args: Any, gpu_id: int, tp_rank: int, pp_rank: int) -> Place:
    """Make these the arguments and the place of this process."""
    if since("0.5.21"):
        from .. import runtime_context

        world_rank = runtime_context.spawn_world_rank(server_args, tp_rank=tp_rank, pp_rank=pp_rank)
        ranks = runtime_context.SpawnRanks(world_rank=world_rank, gpu_id=gpu_id)
        runtime_context.publish(server_args, role="scheduler", ranks=ranks)
    else:
        resolve(server_args)
        published.publish(server_args, gpu_id)
    return place_of(server_args, gpu_id, tp_rank, pp_rank)


def own_place(server_args: Any, gpu_id: int | None, tp_rank: int | None, pp_rank: int | None) -> Place:
    """Where this process stands: by a constructor's arguments, or from 0.5.21 on by what has been published."""
    if gpu_id is None or tp_rank is None or pp_rank is None:
        from ..runtime_context import get_parallel

        parallel = get_parallel()
        gpu_id, tp_rank, pp_rank = published.gpu_id(), parallel.tp_rank, parallel.pp_rank
    return place_of(server_args, gpu_id, tp_rank, pp_rank)


def ranks(place: Place) -> dict[str, Any]:
    """The ranks as arguments by SGLang's names."""
    return {name: value for name, value in asdict(place).items() if name != "gpu_id"}


def state_of(server_args: Any, place: Place) -> Any:
    """The object that constructors hand on from 0.5.16 to 0.5.20."""
    from ..distributed.parallel_state_wrapper import ParallelState

    values = settled(server_args)
    told = {
        **asdict(place),
        "tp_size": values.tp_size,
        "pp_size": values.pp_size,
        "attn_tp_rank": place.tp_rank,
        "attn_tp_size": values.tp_size,
        "moe_ep_size": values.ep_size,
    }
    known = {field.name for field in fields(ParallelState)}
    return ParallelState.trivial(**{name: value for name, value in told.items() if name in known})


def resolve(server_args: Any) -> None:
    """Have the arguments resolved, in releases where making them does not do it."""
    if not arguments.RESOLVED_WHEN_MADE:
        server_args.resolve_once()


def publish_launcher(server_args: Any) -> None:
    """Make these the arguments of the launching process, which has no rank."""
    if since("0.5.21"):
        from .. import runtime_context

        runtime_context.publish(server_args, role="tokenizer")
    else:
        published.publish(server_args)
