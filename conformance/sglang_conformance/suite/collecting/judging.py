"""Judging what collectives gave, once all of a check's are made: a rank that stopped at the first fault would leave the
others waiting.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...ranks.board import Disagreement
from .. import expect
from . import tensors
from .parts import MOVE, Parts

if TYPE_CHECKING:
    from ...oracles.collectives import Array
    from ..member import Member


REFUSED = object()
"""What :func:`tried`, :func:`offered` and :func:`served` give for a call that raises."""


class Verdict:
    """What was found wrong in a check; at the end of the ``with`` block the first of it is raised."""

    def __init__(self) -> None:
        self._first: expect.Violation | None = None

    def __enter__(self) -> Verdict:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._first is not None and (error is None or isinstance(error, expect.Declined)):
            raise self._first  # what is declined afterwards takes nothing back

    def note(self, judge: Callable[[], None]) -> None:
        """Judge something: a violation is kept for the end."""
        if self._first is None:
            try:
                judge()
            except expect.Violation as violation:
                self._first = violation

    def that(self, truth: object, *, expected: str, seen: str, call: str, cause: str = "") -> None:
        """As :func:`.expect.that`."""
        self.note(lambda: expect.that(truth, expected=expected, seen=seen, call=call, cause=cause))

    def equal(self, got: Any, expected: Any, *, call: str, cause: str = "") -> None:
        """As :func:`.expect.equal`."""
        self.note(lambda: expect.equal(got, expected, call=call, cause=cause))

    def reduced(self, got: Any, parts: Parts, call: str) -> None:
        """The reduction of all parts."""
        from ...oracles import collectives as oracle

        expected = parts.reduced()
        within = oracle.rounding(parts.dtype, expected) if parts.operation == "avg" else 0.0
        self.holds(got, expected, parts.dtype, call, sources=parts.all, operation=parts.operation, within=within)

    def moved(self, got: Any, parts: Parts, rank: int, call: str) -> None:
        """One rank's part, as it is."""
        self.holds(got, parts.of(rank), parts.dtype, call, sources=parts.all)

    def near_sum(self, got: Any, parts: Sequence[Array], dtype: str, call: str) -> None:
        """The sum of these, but for what the type's precision takes."""
        from ...oracles import collectives as oracle

        self.holds(got, oracle.reduced("sum", parts), dtype, call, within=oracle.tolerance(dtype, parts))

    def gathered(self, got: Any, parts: Parts, call: str, dim: int = 0) -> None:
        """All parts, joined along a dimension."""
        import numpy as np

        def sources() -> list[Array]:
            return [np.concatenate([each] * parts.size, axis=dim) for each in parts.all()]

        self.holds(got, parts.gathered(dim), parts.dtype, call, sources=sources)

    def scattered(self, got: Any, whole: Parts, rank: int, call: str) -> None:
        """A rank's rows of the reduction of all parts."""
        import numpy as np

        def mine(numbers: Array) -> Array:
            return np.split(numbers, whole.size)[rank]

        def sources() -> list[Array]:
            return [mine(part) for part in whole.all()]

        self.holds(got, mine(whole.reduced()), whole.dtype, call, sources=sources, operation=whole.operation)

    def exchanged(self, got: Any, parts: Parts, rank: int, call: str) -> None:
        """What every rank's part has for one rank, by the rank that it comes from."""
        import numpy as np

        theirs = [np.split(part, parts.size)[rank] for part in parts.all()]
        self.holds(got, np.concatenate(theirs), parts.dtype, call)

    def holds(
        self,
        got: Any,
        expected: Array,
        dtype: str,
        call: str,
        *,
        sources: Callable[[], Sequence[Array]] = tuple,
        operation: str = MOVE,
        within: Array | float = 0.0,
    ) -> None:
        """A tensor of that type and shape with these numbers; nothing is said of what was refused.

        ``sources`` gives the ranks' own at each position: from them the message tells whose is missing or misplaced.
        """
        if got is REFUSED:
            return

        def judge() -> None:
            _is_tensor(got, expected.shape, dtype, call)
            _has_numbers(tensors.numbers(got), expected, dtype, call, sources, operation, within)

        self.note(judge)


def attempt(call: str, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """What a function gives; what it raises is a violation that names the call."""
    return expect.attempt(call, lambda: function(*given, **options)).value


def tried(function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """What a function gives; REFUSED where it raises, other than because the ranks do not call the same."""
    try:
        return function(*given, **options)
    except Disagreement:
        raise
    except Exception as error:
        expect.pass_on_uncovered(error)
        return REFUSED


def offered(member: Member, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """As :func:`tried`, for a call that a platform may refuse, but then on every rank alike.

    What is refused throughout a check is told as unsupported.
    """
    got = tried(function, *given, **options)
    member.note(got is not REFUSED)
    return got


def served(member: Member, call: str, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """As :func:`attempt`, for a method behind which SGLang has an operator of its own; host tensors are only offered.

    Those operators are registered for the accelerator's dispatch key alone (0.5.23, srt/utils/custom_op.py and
    srt/utils/common.py).
    """
    if member.device.type != "cpu":
        return attempt(call, function, *given, **options)
    return offered(member, function, *given, **options)


def _is_tensor(got: Any, shape: Sequence[int], dtype: str, call: str) -> None:
    import torch

    wanted = f"a tensor of {dtype} {list(shape)}"
    if not isinstance(got, torch.Tensor):
        expect.fail(expected=wanted, seen=expect.show(got), call=call)
    if got.dtype is not getattr(torch, dtype) or got.shape != tuple(shape):
        seen = f"one of {str(got.dtype).removeprefix('torch.')} {list(got.shape)}"
        expect.fail(expected=wanted, seen=seen, call=call)


def _has_numbers(
    got: Array,
    expected: Array,
    dtype: str,
    call: str,
    sources: Callable[[], Sequence[Array]],
    operation: str,
    within: Array | float,
) -> None:
    from ...oracles import collectives as oracle

    wrong = oracle.wrong(got, expected, within)
    if not len(wrong):
        return
    first = int(wrong[0])
    saw, wanted = got.reshape(-1)[first].item(), expected.reshape(-1)[first].item()
    theirs = [source.reshape(-1)[first].item() for source in sources()]
    told = oracle.told(saw, wanted, theirs, operation) if theirs else ""
    if str(float(saw)) == str(float(tensors.poison(dtype))) and not told:
        told = "it was never written"
    place = [int(index) for index in _index_of(first, expected.shape)]
    where = f"wrong at {len(wrong)} of {expected.size} positions, first at {place}"
    seen = ", ".join(filter(None, (_spelt(saw), told, where)))
    expect.fail(expected=f"{_spelt(wanted)} at {place}", seen=seen, call=call)


def _spelt(number: float) -> str:
    """A number with all its digits: the last bit may be what is wrong."""
    return repr(number).removesuffix(".0")


def _index_of(flat: int, shape: Sequence[int]) -> list[int]:
    place = []
    for length in reversed(shape):
        flat, index = divmod(flat, length)
        place.append(index)
    return place[::-1]
