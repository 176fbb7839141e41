"""torch.distributed's collectives as SGLang calls them, and groups made for one check.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..grouping import beside

if TYPE_CHECKING:
    from ..member import Member

_OPERATIONS = {
    "sum": "SUM",
    "avg": "AVG",
    "min": "MIN",
    "max": "MAX",
    "product": "PRODUCT",
    "band": "BAND",
    "bor": "BOR",
    "bxor": "BXOR",
}


def operation(name: str) -> Any:
    """Torch's reduction of an oracle's name."""
    import torch.distributed as dist

    return getattr(dist.ReduceOp, _OPERATIONS[name])


def all_gather_single(output: Any, tensor: Any, **options: Any) -> Any:
    """Gather into one tensor, by the name that this torch has for it (SGLang 0.5.23, srt/distributed/utils.py:17)."""
    import torch.distributed as dist

    call = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    return call(output, tensor, **options)


def reduce_scatter_single(output: Any, tensor: Any, **options: Any) -> Any:
    """Reduce and scatter one tensor, by the name that this torch has for it."""
    import torch.distributed as dist

    call = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    return call(output, tensor, **options)


@contextmanager
def groups(member: Member, *ranks: Sequence[int]) -> Iterator[list[Any]]:
    """Groups of these ranks, made as SGLang makes its own; destroyed once all ranks are done with them.

    All ranks must make them alike. None for a group that the member is not in.
    """
    import torch.distributed as dist

    made = [beside.on_device(members, seconds=member.seconds) for members in ranks]
    mine = [group if member.number in members else None for group, members in zip(made, ranks, strict=True)]
    try:
        yield mine
        member.side.meet()
    finally:
        for group in filter(None, mine):
            dist.destroy_process_group(group)
