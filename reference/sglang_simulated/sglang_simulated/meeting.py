"""How the ranks of a group tell each other something, by way of the host."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

_ROOM = 4096  # bytes of an answer with a deadline


def place_in(group: Any) -> tuple[int, int]:
    """The rank of this process in a group, and the group's size: torch.distributed's, or a StatelessProcessGroup.

    AssertionError for a group over NCCL, which carries nothing of the host's.
    """
    if not isinstance(group, dist.ProcessGroup):
        return group.rank, group.world_size
    if dist.get_backend(group) == dist.Backend.NCCL:
        raise AssertionError("ranks meet over a group of another backend than NCCL's")
    return dist.get_rank(group), dist.get_world_size(group)


def told_by_all(group: Any, answer: Any) -> list[Any]:
    """What every rank of the group answers, by rank. All of them must ask."""
    if not isinstance(group, dist.ProcessGroup):
        said: list[Any] = group.all_gather_obj(answer)
        return said
    answers: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(answers, answer, group=group)
    return answers


def told_in_time(group: Any, answer: str, seconds: float) -> list[str]:
    """What every rank of a group of torch.distributed's answers, by rank; of a long answer its first 4 KiB.

    TimeoutError where one does not within these seconds, RuntimeError where one has ended. Whoever comes too late has
    the answers of those that have waited all the same: this rank has asked, and the group stays as it is.
    """
    own = torch.zeros(_ROOM, dtype=torch.uint8)
    said = answer.encode()[:_ROOM]
    own[: len(said)] = torch.frombuffer(bytearray(said or b"\0"), dtype=torch.uint8)[: len(said)]
    rows = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    work = dist.all_gather(rows, own, group=group, async_op=True)
    try:
        work.wait(timedelta(seconds=seconds))
    except RuntimeError as error:
        if "timed out" not in str(error).lower():
            raise
        raise TimeoutError(f"not every rank of the group has answered within {seconds:g} s") from None
    return [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in rows]
