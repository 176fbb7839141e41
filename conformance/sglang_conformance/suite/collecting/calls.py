"""torch.distributed's collectives in one form: each prepared, called and judged alike.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import expect
from . import distributed, rings, tensors
from .judging import REFUSED, Verdict, attempt, tried
from .parts import MOVE, Parts
from .prepared import Prepared, Seat, Table, moved, shape_of

if TYPE_CHECKING:
    from ..member import Member

_SUMS = ("all_reduce", "reduce", "reduce_scatter_tensor", "reduce_scatter")
PEERS = "send and recv"
_OFTEN_MISSING = ("reduce", "gather", "scatter", "all_to_all_single", PEERS)


def seat(member: Member, group: Any = None, ranks: Sequence[int] = ()) -> Seat:
    """The member's place in a group of these ranks, or in that of all."""
    all_ranks = tuple(ranks) or tuple(range(member.size))
    return Seat(group or member.group, all_ranks, all_ranks.index(member.number), member.device)


def prepared(name: str, at: Seat, parts: Parts, root: int = 0, layout: str = tensors.OFFSET) -> Prepared:
    """One of torch's collectives on a rank: of ``parts``, from or to the member at place ``root``.

    ``parts`` are for as many ranks as the group has; its operation is used where the collective reduces. All tensors
    are laid out so; those of collectives over parts (reduce_scatter, all_to_all) have so many rows for each rank.
    """
    return _PREPARE[name](Table(name, at, parts, root, layout))


def called(name: str, at: Seat, parts: Parts, root: int = 0, layout: str = tensors.OFFSET) -> Prepared:
    """The collective, already called."""
    found = prepared(name, at, parts, root, layout)
    found.begin(False)
    return found


def demanded(verdict: Verdict, name: str, at: Seat, parts: Parts, root: int = 0) -> None:
    """Call a collective that must be served, and judge it."""
    found = prepared(name, at, parts, root)
    attempt(found.call, found.begin, False)
    found.judge(verdict)


def suited(name: str, dtype: str, size: int, shape: tuple[int, ...], salt: int = 0, copies: int = 1) -> Parts:
    """Parts for a collective: to be summed where it reduces, else to be moved."""
    return Parts("sum" if name in _SUMS else MOVE, dtype, size, shape, salt, copies)


def served(member: Member, names: Sequence[str], group: Any = None) -> list[str]:
    """Those of the collectives that are not refused in the group of all ranks; most backends have them all.

    A violation where some ranks are refused one and others are not.
    """
    here = seat(member, group)
    refused = [
        name
        for name in names
        if name in _OFTEN_MISSING and tried(called, name, here, suited(name, "float32", member.size, (2,))) is REFUSED
    ]
    everywhere = member.side.to_all(refused)
    seen = "; ".join(f"rank {rank} is refused {', '.join(each) or 'none'}" for rank, each in enumerate(everywhere))
    call = f"torch.distributed's {', '.join(names)}"
    expect.that(all(each == refused for each in everywhere), expected="the same on every rank", seen=seen, call=call)
    return [name for name in names if name not in refused]


def require_peers(member: Member, group: Any = None) -> None:
    """Declined where every rank is refused: SGLang sends only between stages and between experts' places."""
    if not served(member, (PEERS,), group):
        raise expect.Declined("every rank is refused send and recv, with an error")


def _works(async_op: bool, work: Any) -> list[Any]:
    return [work] if async_op else []


def _all_reduce(table: Table) -> Prepared:
    import torch.distributed as dist

    parts, at = table.parts, table.at
    own = table.held(parts.of(at.place), lambda v, got, call: v.reduced(got, parts, call))
    operation = distributed.operation(parts.operation)

    def begin(async_op: bool) -> list[Any]:
        return _works(async_op, dist.all_reduce(own.laid.tensor, operation, group=at.group, async_op=async_op))

    return Prepared(table.call, begin, (own,))


def _reduce(table: Table) -> Prepared:
    import torch.distributed as dist

    parts, at = table.parts, table.at
    # What the tensors of the others hold afterwards is nobody's business.
    judge = (lambda v, got, call: v.reduced(got, parts, call)) if table.is_root else None
    own, operation = table.held(parts.of(at.place), judge), distributed.operation(parts.operation)

    def begin(async_op: bool) -> list[Any]:
        work = dist.reduce(own.laid.tensor, at.ranks[table.root], operation, group=at.group, async_op=async_op)
        return _works(async_op, work)

    return Prepared(table.rooted, begin, (own,))


def _broadcast(table: Table) -> Prepared:
    import torch.distributed as dist

    at = table.at
    own = table.held(table.parts.of(at.place), partial(moved, table.parts, table.root))

    def begin(async_op: bool) -> list[Any]:
        work = dist.broadcast(own.laid.tensor, at.ranks[table.root], group=at.group, async_op=async_op)
        return _works(async_op, work)

    return Prepared(table.rooted, begin, (own,))


def _all_gather(table: Table) -> Prepared:
    import torch.distributed as dist

    at, own, rooms = table.at, table.same(table.parts.of(table.at.place)), table.rooms()

    def begin(async_op: bool) -> list[Any]:
        outputs = [room.laid.tensor for room in rooms]
        return _works(async_op, dist.all_gather(outputs, own.laid.tensor, group=at.group, async_op=async_op))

    return Prepared(table.call, begin, rooms, (own,))


def _all_gather_into_tensor(table: Table) -> Prepared:
    parts, at = table.parts, table.at
    own = table.same(parts.of(at.place))
    whole = table.room(shape_of(parts.for_each()), lambda v, got, call: v.gathered(got, parts, call))

    def begin(async_op: bool) -> list[Any]:
        options = {"group": at.group, "async_op": async_op}
        return _works(async_op, distributed.all_gather_single(whole.laid.tensor, own.laid.tensor, **options))

    return Prepared(table.call, begin, (whole,), (own,))


def _reduce_scatter_tensor(table: Table) -> Prepared:
    whole, at = table.parts.for_each(), table.at
    given = table.same(whole.of(at.place))
    room = table.room(table.shape, lambda v, got, call: v.scattered(got, whole, at.place, call))

    def begin(async_op: bool) -> list[Any]:
        options = {"op": distributed.operation(whole.operation), "group": at.group, "async_op": async_op}
        return _works(async_op, distributed.reduce_scatter_single(room.laid.tensor, given.laid.tensor, **options))

    return Prepared(table.call, begin, (room,), (given,))


def _reduce_scatter(table: Table) -> Prepared:
    import numpy as np
    import torch.distributed as dist

    whole, at = table.parts.for_each(), table.at
    given = tuple(table.same(part) for part in np.split(whole.of(at.place), at.size))
    room = table.room(table.shape, lambda v, got, call: v.scattered(got, whole, at.place, call))

    def begin(async_op: bool) -> list[Any]:
        inputs, operation = [each.laid.tensor for each in given], distributed.operation(whole.operation)
        work = dist.reduce_scatter(room.laid.tensor, inputs, op=operation, group=at.group, async_op=async_op)
        return _works(async_op, work)

    return Prepared(table.call, begin, (room,), given)


def _gather(table: Table) -> Prepared:
    import torch.distributed as dist

    at, own = table.at, table.same(table.parts.of(table.at.place))
    rooms = table.rooms() if table.is_root else ()

    def begin(async_op: bool) -> list[Any]:
        outputs = [room.laid.tensor for room in rooms] or None
        work = dist.gather(own.laid.tensor, outputs, dst=at.ranks[table.root], group=at.group, async_op=async_op)
        return _works(async_op, work)

    return Prepared(table.rooted, begin, rooms, (own,))


def _scatter(table: Table) -> Prepared:
    import torch.distributed as dist

    at = table.at
    given = tuple(map(table.same, table.parts.all())) if table.is_root else ()
    room = table.room(table.shape, partial(moved, table.parts, at.place))

    def begin(async_op: bool) -> list[Any]:
        inputs = [each.laid.tensor for each in given] or None
        work = dist.scatter(room.laid.tensor, inputs, src=at.ranks[table.root], group=at.group, async_op=async_op)
        return _works(async_op, work)

    return Prepared(table.rooted, begin, (room,), given)


def _all_to_all_single(table: Table) -> Prepared:
    import torch.distributed as dist

    parts, at = table.parts.for_each(), table.at
    given = table.same(parts.of(at.place))
    room = table.room(shape_of(parts), lambda v, got, call: v.exchanged(got, parts, at.place, call))

    def begin(async_op: bool) -> list[Any]:
        work = dist.all_to_all_single(room.laid.tensor, given.laid.tensor, group=at.group, async_op=async_op)
        return _works(async_op, work)

    return Prepared(table.call, begin, (room,), (given,))


def _send_and_recv(table: Table) -> Prepared:
    """To the next place of the group, from the one before; ``root``: those of odd places send first."""
    import torch.distributed as dist

    at = table.at
    after, before = (at.place + 1) % at.size, (at.place - 1) % at.size
    own, room = table.same(table.parts.of(at.place)), table.room(table.shape, partial(moved, table.parts, before))

    def begin(async_op: bool) -> list[Any]:
        sent, received = [], []

        def send() -> None:
            sent.append((dist.isend if async_op else dist.send)(own.laid.tensor, at.ranks[after], group=at.group))

        def receive() -> None:
            peer = at.ranks[before]
            received.append((dist.irecv if async_op else dist.recv)(room.laid.tensor, peer, group=at.group))

        rings.in_turns(at.place % 2 == table.root % 2, send, receive)
        return received + sent if async_op else []

    first = "odd" if table.root % 2 else "even"
    return Prepared(f"{table.call} in a ring, those of {first} places sending first", begin, (room,), (own,))


_PREPARE: Mapping[str, Callable[[Table], Prepared]] = {
    "all_reduce": _all_reduce,
    "reduce": _reduce,
    "broadcast": _broadcast,
    "all_gather": _all_gather,
    "all_gather_into_tensor": _all_gather_into_tensor,
    "reduce_scatter_tensor": _reduce_scatter_tensor,
    "reduce_scatter": _reduce_scatter,
    "gather": _gather,
    "scatter": _scatter,
    "all_to_all_single": _all_to_all_single,
    PEERS: _send_and_recv,
}
