"""Where a wrong number is born: the first value on the way that differs from the oracle's, and whose it is.

All that was seen is compared in the order in which it was computed, so what comes before the first difference is right:
the operator that gave it had the right inputs. The oracle follows the tokens that were really served, so a wrong token
does not make all after it wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
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


# Operators that are modules of SGLang's models; and those of which a model may have one or the other.
_MODULES = frozenset({"embedding", "linear", "norm", "rope", "attention", "activation", "router", "topk", "experts"})
_EITHER = (".w_kc", ".kv_b_proj", ".attn_mqa", ".attn_mha")


@dataclass(frozen=True)
class Birth:
    """The first difference: which value of which token, by which module, in which pass.

    ``kind`` is the oracle's kind of operator, or ``reduction`` where every rank's summand was right and the sum is not,
    ``allocator`` where two requests had the same slot: ``others`` are the tokens that had it too. It is ``unseen``
    where modules between the last right value and this one are not in the model, as others stand in their place:
    ``others`` are their names. ``by`` is what computed the value, and ``where`` the line of it, where that is a
    vendor's. ``order`` counts what was seen in the pass before it.
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
    where: str = ""
    order: int = 0

    def __str__(self) -> str:
        what = f"{self.module} ({self.output})" if self.output else self.module
        return f"{what}, column {self.column}, position {self.token.position} of request {self.token.request}"


@dataclass(frozen=True)
class Truth:
    """What should have been seen: the oracle's points for the whole sequence of each request.

    ``tolerances`` are what a value of a point may be off by, for each token.
    """

    trace: Trace
    names: tuple[str, ...]
    place: Place
    tolerances: Mapping[str, Array]

    @cached_property
    def points(self) -> Mapping[str, Point]:
        """The oracle's points by name."""
        return {point.name: point for point in self.trace.points}

    @cached_property
    def parts(self) -> Mapping[str, Array]:
        """What this rank's modules give of each point, before any reduction."""
        return {point.name: point.part(self.place) for point in self.trace.points}

    def before(self, point: Point, known: Set[str]) -> list[str]:
        """The modules that lead to a point and were not seen, after the last value that was, in a layer that was.

        Not those of which SGLang's model may go without: there are two ways of latent attention.
        """
        names, points = list(self.points), list(self.points.values())
        layers = {self.points[name].layer for name in known}
        missing: dict[str, None] = {}
        for each in reversed(points[: names.index(point.name)]):
            if each.module == point.module:
                continue
            if each.name in known or each.layer not in layers:
                break
            if each.operator in _MODULES and not each.module.endswith(_EITHER):
                missing[each.module] = None
        return [*missing][::-1]

    def alike(self, one: Token, other: Token) -> bool:
        """Whether two tokens are the same, and so are all before them: they have the same keys and values."""
        mine, its = (self._sequences[each.request] for each in (one, other))
        return one.position == other.position and mine[: one.position + 1] == its[: one.position + 1]

    @cached_property
    def _sequences(self) -> Mapping[str, tuple[int, ...]]:
        return dict(zip(self.names, self.trace.batch.sequences, strict=True))

    def rows(self, tokens: Sequence[Token]) -> list[int]:
        """The oracle's rows of some tokens."""
        order = {name: number for number, name in enumerate(self.names)}
        return [self.trace.batch.row(order[token.request], token.position) for token in tokens]

    def point(self, seen: Seen) -> Point | None:
        """The oracle's point for what was seen; None where it has none."""
        for output in _NAMES.get(seen.output, (seen.output,)):
            name = f"{seen.module}:{output}" if output else seen.module
            if name in self.points:
                return self.points[name]
        return None

    def value(self, point: Point, seen: Seen) -> Array:
        """What this rank should have, for all tokens."""
        whole = point.operator == "logits" or (point.partial and seen.reduced is True)
        return point.value if whole else self.parts[point.name]


def first(passes: Sequence[Pass], truth: Truth) -> Birth | None:
    """The first difference; None where all is right that could be seen."""
    return next(differences(passes, truth), None)


def differences(passes: Sequence[Pass], truth: Truth) -> Iterator[Birth]:
    """Every value that is wrong, the worst number of each, in the order in which they were computed."""
    for each in passes:
        known: set[str] = set()
        for order, seen in enumerate(each.seen):
            point = truth.point(seen)
            if point is not None:
                found = _difference(passes, each, order, point, truth)
                if found is not None:
                    yield _or_between(found, truth.before(point, known))
                known.add(point.name)


def shared(passes: Sequence[Pass], truth: Truth) -> tuple[Pass, Token, Token] | None:
    """The first two tokens of one pass that have the same slot, and may not; None where there are none.

    Requests that begin with the same tokens may have one slot for each of these: a prefix cache gives them so.
    """
    for each in passes:
        holders: dict[int, Token] = {}
        for request, slots in each.slots.items():
            for position, slot in enumerate(slots):
                token = Token(request, position)
                first = holders.setdefault(slot, token)
                if first != token and not truth.alike(first, token):
                    return each, first, token
    return None


def _or_between(found: Birth, unseen: Sequence[str]) -> Birth:
    return replace(found, kind="unseen", others=tuple(unseen)) if unseen else found


def _difference(passes: Sequence[Pass], each: Pass, order: int, point: Point, truth: Truth) -> Birth | None:
    import numpy as np

    seen = each.seen[order]
    rows = truth.rows(seen.rows)
    expected, value = truth.value(point, seen)[rows], seen.value
    if point.operator == "logits":
        value = value[:, : expected.shape[1]]  # a vocabulary is filled up to a round number
    if value.shape != expected.shape:
        return None  # laid out in another way, as a vendor's own pool may be: what is made of it will be judged
    if point.operator == "topk":
        value, expected = np.sort(value, axis=1), np.sort(expected, axis=1)  # experts may be told in any order
    allowed = truth.tolerances[point.name][rows][:, None]
    off = np.abs(value - expected)
    wrong = ~(off <= allowed)  # also where it is not a number
    if not wrong.any():
        return None
    row, column = np.unravel_index(np.where(wrong, np.nan_to_num(off, nan=np.inf), -1.0).argmax(), off.shape)
    token = seen.rows[row]
    others = _also(passes, each, token, truth) if point.operator == "pool" else ()
    summed = seen.reduced and point.partial and not seen.by
    kind = "allocator" if others else "reduction" if summed else point.operator
    return Birth(
        kind,
        seen.module,
        point.output,
        token,
        int(column),
        float(expected[row, column]),
        float(value[row, column]),
        float(allowed[row, 0]),
        each.number,
        each.mode,
        seen.by,
        others,
        seen.where,
        order,
    )


def _also(passes: Sequence[Pass], now: Pass, token: Token, truth: Truth) -> tuple[str, ...]:
    """The tokens that had the slot of this one too, since this one has it, and may not."""
    slot = _slot(now, token)
    if slot is None:
        return ()
    since = now.number
    for each in reversed(passes[: now.number + 1]):
        if token.request in each.slots:
            if _slot(each, token) != slot:
                break
            since = each.number
            if token in each.rows:
                break  # this is when it was written
    found = {
        f"position {position} of request {request}": None
        for each in passes[since : now.number + 1]
        for request, slots in each.slots.items()
        for position, other in enumerate(slots)
        if other == slot and not truth.alike(token, Token(request, position))
    }
    return tuple(found)


def _slot(each: Pass, token: Token) -> int | None:
    own = each.slots.get(token.request, ())
    return own[token.position] if token.position < len(own) else None
