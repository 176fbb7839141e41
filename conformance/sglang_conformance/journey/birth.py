"""Where a wrong number is born: the first value on the way that differs from the oracle's, and whose it is.

All that was seen is compared in the order in which it was computed, so what comes before the first difference is right:
the operator that gave it had the right inputs. The oracle follows the tokens that were really served, so a wrong token
does not make all after it wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .watch import Pass, Seen, Token

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..oracles.decoders.decoder import Trace
    from ..oracles.decoders.points import Place, Point

    Array = NDArray[np.float64]

# What a module's outputs are called by the oracle, one after another.
_NAMES: Mapping[str, tuple[str, ...]] = {"": ("", "q"), "1": ("residual", "k")}


@dataclass(frozen=True)
class Birth:
    """The first difference: which value of which token, by which module, in which pass.

    ``kind`` is the oracle's kind of operator, or ``reduction`` where every rank's summand was right and the sum is not,
    ``allocator`` where two requests had the same slot.
    """

    kind: str
    module: str
    output: str
    token: Token
    column: int
    expected: float
    seen: float
    allowed: float
    number: int
    mode: str
    by: str = ""
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"{self.module} ({self.output})" if self.output else self.module
        return f"{what}, column {self.column}, position {self.token.position} of request {self.token.request}"


@dataclass(frozen=True)
class Truth:
    """What should have been seen: the oracle's points for the whole sequence of each request.

    ``relative`` is what a value may differ by, as a part of the largest of its point.
    """

    trace: Trace
    names: tuple[str, ...]
    place: Place
    relative: float

    def rows(self, tokens: Sequence[Token]) -> list[int]:
        """The oracle's rows of some tokens."""
        order = {name: number for number, name in enumerate(self.names)}
        return [self.trace.batch.row(order[token.request], token.position) for token in tokens]

    def point(self, seen: Seen) -> Point | None:
        """The oracle's point for what was seen; None where it has none."""
        points = {point.name: point for point in self.trace.points}
        for output in _NAMES.get(seen.output, (seen.output,)):
            name = f"{seen.module}:{output}" if output else seen.module
            if name in points:
                return points[name]
        return None

    def value(self, point: Point, seen: Seen) -> Array:
        """What this rank should have, for all tokens."""
        whole = point.operator == "logits" or (point.partial and seen.reduced is True)
        return point.value if whole else point.part(self.place)


def first(passes: Sequence[Pass], truth: Truth) -> Birth | None:
    """The first difference; None where all is right that could be seen."""
    return next(differences(passes, truth), None)


def differences(passes: Sequence[Pass], truth: Truth) -> Iterator[Birth]:
    """Every value that is wrong, the worst number of each, in the order in which they were computed."""
    for each in passes:
        for seen in each.seen:
            point = truth.point(seen)
            if point is not None:
                found = _difference(each, seen, point, truth)
                if found is not None:
                    yield found


def _difference(each: Pass, seen: Seen, point: Point, truth: Truth) -> Birth | None:
    import numpy as np

    expected = truth.value(point, seen)[truth.rows(seen.rows)]
    if seen.value.shape != expected.shape:
        if point.operator != "logits" or seen.value.shape[1] < expected.shape[1]:
            return None  # laid out in another way, as a vendor's own pool may be: only what is made of it can be judged
        expected, value = expected, seen.value[:, : expected.shape[1]]
    else:
        value = seen.value
    if point.output == "ids":
        value, expected = np.sort(value, axis=1), np.sort(expected, axis=1)
    allowed = truth.relative * float(np.abs(point.value).max(initial=0.0))
    off = np.abs(value - expected)
    wrong = ~(off <= allowed)  # also where it is not a number
    if not wrong.any():
        return None
    row, column = np.unravel_index(np.where(np.isnan(off), np.inf, off).argmax(), off.shape)
    token = seen.rows[row]
    others = _also(each, token) if point.operator == "pool" else ()
    kind = "allocator" if others else "reduction" if seen.reduced and point.partial else point.operator
    return Birth(
        kind,
        seen.module,
        point.output,
        token,
        int(column),
        float(expected[row, column]),
        float(value[row, column]),
        allowed,
        each.number,
        each.mode,
        seen.by,
        others,
    )


def _also(each: Pass, token: Token) -> tuple[str, ...]:
    """The other tokens that have the slot of this one."""
    own = each.slots.get(token.request, ())
    if token.position >= len(own):
        return ()
    slot = own[token.position]
    return tuple(
        f"position {position} of request {request}"
        for request, slots in each.slots.items()
        for position, other in enumerate(slots)
        if other == slot and (request, position) != (token.request, token.position)
    )
