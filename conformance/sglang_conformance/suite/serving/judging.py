"""What a leg came to, held against the oracle: tokens, logits, and where the first wrong number is born.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from ...journey import birth, tolerances
from ...journey.birth import Birth, Truth
from ...journey.leg import Leg
from ...journey.served import Answer, Served
from ...journey.watch import Token
from ...oracles.decoders.decoder import Trace
from ...oracles.decoders.points import Place
from .. import expect
from . import blaming

OPERATORS = ("residual", "norm", "activation", "rope", "topk")
_LOGITS = "logits_processor"
LAYERS = ("embedding", "linear", "router", "experts", "logits")


def truth(served: Served) -> Truth:
    """What should have been seen of what was served."""
    sequences = tuple(answer.sequence for answer in served.answers.values())
    leg = served.leg
    return _truth(leg.model, leg.dtype, sequences, tuple(served.answers), Place(served.rank % leg.tp, leg.tp, leg.ep))


def born(served: Served) -> Birth | None:
    """Where the first wrong number of a leg is born; None where none was seen, or what comes of it is right.

    A platform may compute parts of a model otherwise, as long as its logits are the model's: it may have put the weight
    of a norm into what comes next. On a rank that has no logits, each part must be the oracle's.
    """
    true = truth(served)
    if any(answer.logits for answer in served.answers.values()) and _wrong_logit(served, true)[0] is None:
        return None
    return birth.first(served.passes, true)


def parts_are_right(served: Served, kinds: Collection[str]) -> None:
    """Fail where the first wrong number is born in an operator of these kinds.

    NotReached where it is born before in another: then these had wrong inputs.
    """
    found = born(served)
    if found is None or found.kind == "unseen":  # what comes of it is judged by logits and tokens
        return
    if found.kind not in kinds:
        raise expect.NotReached(f"the first wrong number is born elsewhere, in the {found.kind}: {found}")
    tell(served, found)


def all_is_right(served: Served) -> str:
    """Fail with the first wrong number, a slot that two tokens have, or a wrong token; the margins, as a text."""
    slots_are_nobodys_else(served)
    found = born(served)
    if found is not None:
        tell(served, found)
    return f"{tokens_are_right(served)}; {logits_are_right(served)}"


def slots_are_nobodys_else(served: Served) -> None:
    """Fail where two tokens of requests that are being served have one slot, without beginning alike."""
    found = birth.shared(served.passes, truth(served))
    if found is not None:
        each, first, other = found
        expect.fail(
            expected="a slot of its own for each token",
            seen=f"slot {each.slots[first.request][first.position]} for {_told(first)} and for {_told(other)}",
            call=f"serving {served.leg}: the slots of pass {each.number} ({each.mode})",
            where=served.places.get("allocator", ""),
            cause=f"slots come from {served.classes['allocator']}, by get_paged_allocator_cls()",
        )


def likeliest_are_taken(served: Served) -> str:
    """Fail unless each token is the likeliest by the logits that were seen for it; how many were looked at, as text."""
    import numpy as np

    count = 0
    for answer in served.answers.values():
        for made, (token, logits) in enumerate(zip(answer.tokens, answer.logits, strict=False)):
            known = logits[: served.leg.decoder.config["vocab_size"]]
            call = f"serving {served.leg}: token {made} of request {answer.request.name}"
            if np.isnan(known).any():
                raise expect.NotReached(f"{call}: the logits are not all numbers")
            best = int(known.argmax())
            count += 1
            known_one = 0 <= token < len(known)
            if not known_one or known[token] != known[best]:
                expect.fail(
                    expected=f"{best}: its logit is {known[best]:.6g}",
                    seen=f"{token}: {f'its logit is {known[token]:.6g}' if known_one else 'there is no such token'}",
                    call=call,
                    cause="the sampler, or what a hook has made of it: these are the logits that it was given",
                )
    return f"{served.leg}: {count} tokens"


def tell(served: Served, found: Birth) -> None:
    """Fail with the first difference."""
    others = f"; its slot was also that of {', '.join(found.others)}" if found.kind == "allocator" else ""
    expect.fail(
        expected=f"{found.expected:.6g} within {found.allowed:.2g}",
        seen=f"{found.seen:.6g}{others}",
        call=f"serving {served.leg}: {found}, in pass {found.number} ({found.mode}), rank {served.rank}",
        where=blaming.line(found, served),
        cause=f"all that was computed before is right; this is by {blaming.cause(found, served)}",
    )


def tokens_are_right(served: Served) -> str:
    """Fail unless each token is the likeliest by the oracle, after the tokens before it; the least margin, as a text.

    Where the two likeliest are so near that rounding may decide, either passes.
    """
    import numpy as np

    true, least = truth(served), np.inf
    allowed = true.tolerances[_LOGITS]
    for number, answer in enumerate(served.answers.values()):
        _is_whole(served, answer)
        for made, token in enumerate(answer.tokens):
            row = true.trace.batch.row(number, len(answer.request.prompt) + made - 1)
            logits = true.trace.logits[row]
            best = int(logits.argmax())
            margin = float(logits[best] - np.partition(logits, -2)[-2])
            least = min(least, margin / float(allowed[row]))
            if float(logits[best] - logits[token]) <= 2 * float(allowed[row]):
                continue
            expect.fail(
                expected=f"{best}: its logit is {logits[best]:.6g}, in float64",
                seen=f"{token}, whose logit is {logits[token]:.6g}",
                call=f"serving {served.leg}: token {made} of request {answer.request.name}",
                cause=_origin(served),
            )
    return f"{served.leg}: the least margin is {least:.3g} tolerances"


def logits_are_right(served: Served) -> str:
    """Fail where a logit is further from the oracle's than rounding takes it; the largest error, as a text."""
    true = truth(served)
    wrong, worst = _wrong_logit(served, true)
    if wrong is not None:
        answer, made, row, column = wrong
        expect.fail(
            expected=f"{true.trace.logits[row, column]:.6g} within {true.tolerances[_LOGITS][row]:.2g}",
            seen=f"{answer.logits[made][column]:.6g}",
            call=f"serving {served.leg}: the logit of {column} for token {made} of request {answer.request.name}",
            cause=_origin(served),
        )
    return f"{served.leg}: the largest error is {worst:.2f} of the tolerance"


def goes_wrong(served: Served) -> bool:
    """Whether a logit of this rank is further from the oracle's than rounding takes it."""
    return _wrong_logit(served, truth(served))[0] is not None


def _wrong_logit(served: Served, true: Truth) -> tuple[tuple[Answer, int, int, int] | None, float]:
    """The first logit that is off by too much: of which answer and token, in which row of the oracle's and column.

    And the largest error of all up to it, in tolerances.
    """
    import numpy as np

    worst = 0.0
    for number, answer in enumerate(served.answers.values()):
        for made, seen in enumerate(answer.logits):
            row = true.trace.batch.row(number, len(answer.request.prompt) + made - 1)
            off = np.abs(seen[: true.trace.logits.shape[1]] - true.trace.logits[row])
            column = int(np.where(np.isnan(off), np.inf, off).argmax())
            error = float(off[column]) / float(true.tolerances[_LOGITS][row])
            worst = max(worst, error)
            if not error <= 1.0:
                return (answer, made, row, column), worst
    return None, worst


def same_tokens(one: Served, other: Served, what: str) -> None:
    """Fail unless two servings gave the same tokens, except where the oracle leaves it open."""
    for served in (one, other):
        tokens_are_right(served)
    for name, answer in one.answers.items():
        twin = other.answers[name]
        if answer.tokens != twin.tokens and not _open(one, answer, twin):
            expect.equal(
                list(twin.tokens), list(answer.tokens), call=f"serving {other.leg} {what}: the tokens of request {name}"
            )


def logits_apart(one: Served, other: Served) -> float:
    """The largest difference of two logits for the same token."""
    import numpy as np

    pairs = [
        (first, second)
        for name, answer in one.answers.items()
        for first, second in zip(answer.logits, other.answers[name].logits, strict=False)
    ]
    return max((float(np.abs(first - second).max()) for first, second in pairs), default=0.0)


def _open(served: Served, one: Answer, other: Answer) -> bool:
    """Whether the first token that differs is one that rounding may decide."""
    import numpy as np

    first = next(n for n, pair in enumerate(zip(one.tokens, other.tokens, strict=False)) if pair[0] != pair[1])
    true = truth(served)
    row = true.trace.batch.row(list(served.answers).index(one.request.name), len(one.request.prompt) + first - 1)
    logits = true.trace.logits[row]
    margin = float(logits.max() - np.partition(logits, -2)[-2])
    return margin < 2 * float(true.tolerances[_LOGITS][row])


def _is_whole(served: Served, answer: Answer) -> None:
    expect.equal(
        len(answer.tokens),
        answer.request.new,
        call=f"serving {served.leg}: the number of tokens of request {answer.request.name} ({answer.reason or 'open'})",
    )


def _origin(served: Served) -> str:
    """Where a wrong token comes from, as a cause."""
    found = born(served)
    if found is not None:
        return f"born in {found}, in pass {found.number} ({found.mode}): {blaming.cause(found, served)}"
    if any(any(answer.by_graph) for answer in served.answers.values()):
        return "all that was seen to be computed eagerly is right: it is born in what a graph replays"
    return "all that was seen on the way is right: it is born in sampling, after the logits"


def _told(token: Token) -> str:
    return f"position {token.position} of request {token.request}"


@lru_cache(maxsize=64)
def _truth(
    model: str, dtype: str, sequences: tuple[tuple[int, ...], ...], names: tuple[str, ...], place: Place
) -> Truth:
    trace, allowed = _traced(model, dtype, sequences)
    return Truth(trace, names, place, allowed)


@lru_cache(maxsize=64)
def _traced(model: str, dtype: str, sequences: tuple[tuple[int, ...], ...]) -> tuple[Trace, Mapping[str, Any]]:
    """What the oracle gives for these sequences, and the tolerances: the same for every rank."""
    oracle = Leg(model).decoder
    trace = oracle.trace(sequences)
    return trace, tolerances.along(oracle, trace, dtype)
