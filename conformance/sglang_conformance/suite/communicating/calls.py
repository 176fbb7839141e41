"""A communicator's collectives in one form: each prepared, called and judged alike, as those of torch are.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from ..collecting import calls, rings, tensors
from ..collecting.distributed import operation
from ..collecting.judging import Verdict, attempt
from ..collecting.parts import MOVE, Parts
from ..collecting.prepared import Prepared, Seat, Table, moved, shape_of
from ..collecting.uneven import Rows, is_part
from .communicators import OWNER

if TYPE_CHECKING:
    from ..member import Member

PEERS = "send and recv"
REDUCE = ("all_reduce", "outplace_all_reduce", "reduce_scatter")
ALL = (*REDUCE, "all_gather", "all_to_all_single", "broadcast", PEERS)
TYPES = ("bfloat16", "float16", "float32", "float64", "int8", "uint8", "int32", "int64")
"""All that SGLang's table gives NCCL a code for (0.5.11 to 0.5.23, pynccl_wrapper.py)."""


def seat(member: Member, ranks: Sequence[int] = ()) -> Seat:
    """The member's place among these ranks, or among all."""
    return calls.seat(member, None, ranks)


def names(communicator: Any) -> tuple[str, ...]:
    """The collectives that a communicator has."""
    return tuple(name for name in ALL if name == PEERS or callable(getattr(communicator, name, None)))


def suited(name: str, dtype: str, size: int, shape: tuple[int, ...], salt: int = 0, copies: int = 1) -> Parts:
    """Parts for a collective: to be summed where it reduces, else to be moved.

    SGLang exchanges flat tensors alone (0.5.23, srt/layers/dcp/comm.py, srt/layers/logits_processor.py).
    """
    shape = (prod(shape),) if name == "all_to_all_single" else shape
    return Parts("sum" if name in REDUCE else MOVE, dtype, size, shape, salt, copies)


def prepared(
    name: str, communicator: Any, at: Seat, parts: Parts, root: int = 0, layout: str = tensors.OFFSET
) -> Prepared:
    """One of a communicator's collectives on a rank: of ``parts``, from or to the member at place ``root``.

    Those over parts (reduce_scatter, all_to_all_single) have so many rows for each rank.
    """
    return _PREPARE[name](communicator, Table(name, at, parts, root, layout, OWNER))


def demanded(verdict: Verdict, name: str, communicator: Any, at: Seat, parts: Parts, root: int = 0) -> Prepared:
    """Call a collective, and judge it."""
    found = prepared(name, communicator, at, parts, root)
    attempt(found.call, found.begin, False)
    found.judge(verdict)
    return found


def gathered_unevenly(member: Member, verdict: Verdict, communicator: Any, rows: Rows) -> None:
    """Gather by the communicator, and judge the result, what lies around it, and that the input stays."""
    import numpy as np

    parts, sizes = rows.parts(member), list(rows.sizes)
    call = f"{OWNER}.all_gather of {rows.dtype} with sizes={sizes}"
    own = tensors.laid(parts[member.number], rows.dtype, member.device, tensors.OFFSET)
    room = tensors.room((sum(sizes), rows.columns), rows.dtype, member.device)
    attempt(call, communicator.all_gather, room.tensor, own.tensor, sizes=sizes)
    verdict.holds(room.tensor, np.concatenate(parts), rows.dtype, call)
    verdict.equal(room.disturbed(), 0, call=f"{call}: changed elements around it")
    verdict.holds(own.tensor, parts[member.number], rows.dtype, f"{call}: its input afterwards")


def scattered_unevenly(member: Member, verdict: Verdict, communicator: Any, rows: Rows) -> None:
    """Reduce and scatter by the communicator, and judge in the same way."""
    whole, sizes, mine = rows.whole(member), list(rows.sizes), rows.mine(member.number)
    call = f"{OWNER}.reduce_scatter of {whole.words()} with sizes={sizes}"
    own = tensors.laid(whole.of(member.number), rows.dtype, member.device, tensors.OFFSET)
    room = tensors.room((sizes[member.number], rows.columns), rows.dtype, member.device)
    attempt(call, communicator.reduce_scatter, room.tensor, own.tensor, sizes=sizes)
    is_part(verdict, room.tensor, whole, mine, call)
    verdict.equal(room.disturbed(), 0, call=f"{call}: changed elements around it")
    verdict.holds(own.tensor, whole.of(member.number), rows.dtype, f"{call}: its input afterwards")


def _beginning(function: Callable[..., Any], *given: Any, **options: Any) -> Callable[[bool], list[Any]]:
    def begin(_: bool) -> list[Any]:
        function(*given, **options)
        return []

    return begin


def _reduction(parts: Parts) -> dict[str, Any]:
    """The core never names the reduction: a sum is the default."""
    return {} if parts.operation == "sum" else {"op": operation(parts.operation)}


def _all_reduce(communicator: Any, table: Table) -> Prepared:
    parts, at = table.parts, table.at
    own = table.held(parts.of(at.place), lambda v, got, call: v.reduced(got, parts, call))
    return Prepared(table.call, _beginning(communicator.all_reduce, own.laid.tensor, **_reduction(parts)), (own,))


def _outplace_all_reduce(communicator: Any, table: Table) -> Prepared:
    parts, at = table.parts, table.at
    given = table.same(parts.of(at.place))
    room = table.room(table.shape, lambda v, got, call: v.reduced(got, parts, call))
    begin = _beginning(communicator.outplace_all_reduce, given.laid.tensor, room.laid.tensor, **_reduction(parts))
    return Prepared(table.call, begin, (room,), (given,))


def _all_gather(communicator: Any, table: Table) -> Prepared:
    parts, at = table.parts, table.at
    own = table.same(parts.of(at.place))
    whole = table.room(shape_of(parts.for_each()), lambda v, got, call: v.gathered(got, parts, call))
    return Prepared(
        table.call, _beginning(communicator.all_gather, whole.laid.tensor, own.laid.tensor), (whole,), (own,)
    )


def _reduce_scatter(communicator: Any, table: Table) -> Prepared:
    whole, at = table.parts.for_each(), table.at
    given = table.same(whole.of(at.place))
    room = table.room(table.shape, lambda v, got, call: v.scattered(got, whole, at.place, call))
    begin = _beginning(communicator.reduce_scatter, room.laid.tensor, given.laid.tensor, **_reduction(whole))
    return Prepared(table.call, begin, (room,), (given,))


def _all_to_all_single(communicator: Any, table: Table) -> Prepared:
    parts, at = table.parts.for_each(), table.at
    given = table.same(parts.of(at.place))
    room = table.room(shape_of(parts), lambda v, got, call: v.exchanged(got, parts, at.place, call))
    begin = _beginning(communicator.all_to_all_single, room.laid.tensor, given.laid.tensor)
    return Prepared(table.call, begin, (room,), (given,))


def _broadcast(communicator: Any, table: Table) -> Prepared:
    own = table.held(table.parts.of(table.at.place), partial(moved, table.parts, table.root))
    call = f"{table.call}, src={table.root}"
    return Prepared(call, _beginning(communicator.broadcast, own.laid.tensor, src=table.root), (own,))


def _send_and_recv(communicator: Any, table: Table) -> Prepared:
    """To the next place of the group, from the one before; ``root``: those of odd places send first."""
    at = table.at
    after, before = (at.place + 1) % at.size, (at.place - 1) % at.size
    own, room = table.same(table.parts.of(at.place)), table.room(table.shape, partial(moved, table.parts, before))

    def begin(_: bool) -> list[Any]:
        rings.in_turns(
            at.place % 2 == table.root % 2,
            partial(communicator.send, own.laid.tensor, after),
            partial(communicator.recv, room.laid.tensor, before),
        )
        return []

    first = "odd" if table.root % 2 else "even"
    return Prepared(f"{table.call} in a ring, those of {first} places sending first", begin, (room,), (own,))


_PREPARE: Mapping[str, Callable[[Any, Table], Prepared]] = {
    "all_reduce": _all_reduce,
    "outplace_all_reduce": _outplace_all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all_single": _all_to_all_single,
    "broadcast": _broadcast,
    PEERS: _send_and_recv,
}
