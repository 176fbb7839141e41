"""Joining in steps, or at another place than a rank's own, and leaving again.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...hosts import groups
from .. import expect
from ..member import Member


def enter(member: Member, *, number: int | None = None, local_rank: int | None = None, timeout: Any = None) -> None:
    """Make the world's group alone: as another number, with another local rank, with another timeout."""
    groups.join(
        rank=member.number if number is None else number,
        size=member.size,
        local_rank=member.local if local_rank is None else local_rank,
        method=member.method(),
        backend=member.backend,
        timeout=max(1, int(member.seconds)) if timeout is None else timeout,
    )


def made(member: Member, call: str, *, timeout: int | None = None, **sizes: int) -> dict[str, Any]:
    """The host's groups of these sizes, by kind; never destroyed: the ranks are not used again.

    That is quicker than to leave: gloo takes some 10 ms for each peer of each group that it gives up.
    """
    expect.attempt(f"joining with {call}", lambda: member.join(timeout=timeout, **sizes))
    return groups.made()


@contextmanager
def joined(member: Member, call: str, *, timeout: int | None = None, **sizes: int) -> Iterator[dict[str, Any]]:
    """The host's groups of these sizes, by kind; destroyed once all ranks are done with them.

    Where something fails they are left as they are: others may wait in them, and the rank is not used again.
    """
    yield made(member, call, timeout=timeout, **sizes)
    leave(member, f"leaving what was joined with {call}")


def leave(member: Member, call: str = "leaving") -> None:
    """Destroy the host's groups, once all ranks are done with them; see :func:`.beside.added`."""
    member.side.meet()
    expect.attempt(call, groups.leave)


def open_groups() -> int:
    """How many process groups torch has in this process."""
    from torch.distributed import distributed_c10d

    return len(distributed_c10d._world.pg_map)


def refused(call: str, action: Callable[[], Any], errors: tuple[type[BaseException], ...]) -> None:
    """Fail unless the action raises one of these errors."""
    try:
        value = action()
    except errors:
        return
    except Exception as error:
        expect.pass_on_uncovered(error)
        seen = f"{type(error).__name__}: {error}"
    else:
        seen = f"no error, and {expect.show(value)}"
    expect.fail(expected=" or ".join(kind.__name__ for kind in errors), seen=seen, call=call)
