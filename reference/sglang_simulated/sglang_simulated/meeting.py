"""How the ranks of a group tell each other something, by way of the host."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from typing import Any

import torch.distributed as dist


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
