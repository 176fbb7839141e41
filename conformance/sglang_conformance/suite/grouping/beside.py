"""Groups beside the host's own: made for one check, of ranks that it says, and destroyed behind it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from ...hosts import groups
from .. import expect
from ..member import Member

Lists = list[list[int]]


def backend() -> str:
    """The backend of the host's groups on the device, as SGLang asks for it when it makes further ones.

    A hook on init_distributed_environment may have chosen it (0.5.23, srt/distributed/parallel_state.py).
    """
    import torch.distributed as dist

    call = "torch.distributed.get_backend(get_world_group().device_group)"
    return str(expect.attempt(call, lambda: dist.get_backend(groups.group("world").device_group)).value)


def on_device(ranks: Sequence[int], *, seconds: float | None = None) -> Any:
    """One of torch's groups of these ranks on the device, with the backend and the options that SGLang gives its own.

    It waits for so many ``seconds``, or as long as torch does where they are not given.
    """
    import torch.distributed as dist

    members, chosen, timeout = list(ranks), backend(), None if seconds is None else timedelta(seconds=seconds)
    make = partial(dist.new_group, members, timeout=timeout, backend=chosen, pg_options=groups.options("tp"))
    return expect.attempt(f"new_group({members}, backend={chosen!r})", make).value


def on_host(ranks: list[int]) -> Any:
    """One of torch's groups of these ranks for host tensors."""
    import torch.distributed as dist

    call = f"new_group({ranks}, backend='gloo')"
    return expect.attempt(call, partial(dist.new_group, list(ranks), backend="gloo")).value


def destroy(group: Any) -> None:
    """Destroy one of torch's groups."""
    import torch.distributed as dist

    expect.attempt("destroy_process_group", partial(dist.destroy_process_group, group))


def everyone(size: int) -> Lists:
    """One group of all ranks."""
    return [list(range(size))]


def strided(size: int) -> Lists:
    """The even ranks, and the odd ones, as pipelines of two stages run."""
    return [list(range(start, size, 2)) for start in range(min(2, size))]


def pairs(size: int, *, shift: int = 0) -> Lists:
    """Each rank with its neighbour, the first pair starting at ``shift``; who is left over is alone."""
    starts = [*range(min(shift, size)), *range(shift, size, 2)]
    return [[start] if start < shift else list(range(start, min(start + 2, size))) for start in starts]


@contextmanager
def added(member: Member, lists: Mapping[str, Lists]) -> Iterator[dict[str, Any]]:
    """The coordinators of these groups, each of this rank's, by name; destroyed once all ranks are done with them.

    Gloo fails in a rank that is still joining when a quicker peer has left again, and torch has ranks wait for each
    other there only where it is told to (2.13, distributed_c10d.py, TORCH_DIST_INIT_BARRIER).
    Where something fails they are left: others may wait in them, and the rank is not used again.
    """
    made, chosen = {}, backend()
    for name, ranks in lists.items():
        call = f"init_model_parallel_group({ranks}, group_name={name!r})"
        made[name] = expect.attempt(call, partial(groups.add, ranks, name, chosen)).value
    yield made
    member.side.meet()
    for name, coordinator in made.items():
        expect.attempt(f"the group {name}: destroy()", coordinator.destroy)
