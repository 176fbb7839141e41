"""What watching would have seen of a right platform: made of the oracle's own numbers, to be spoilt by tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sglang_conformance.journey import tolerances
from sglang_conformance.journey.birth import Truth
from sglang_conformance.journey.leg import Leg, Request
from sglang_conformance.journey.served import Answer, Memory, Served
from sglang_conformance.journey.watch import Pass, Seen, Token
from sglang_conformance.oracles.decoders.decoder import Decoder, Trace
from sglang_conformance.oracles.decoders.points import Place

NEW = 3
_NOTHING = Memory(0, 0, 0, 0, 0)
Change = Callable[[Seen], Seen | None]


@cache
def decoder(model: str) -> Decoder:
    checkpoint = Leg(model).checkpoint
    return Decoder.of(checkpoint.config, checkpoint.weights())


@cache
def _continued(model: str) -> tuple[tuple[Request, tuple[int, ...]], ...]:
    prompts = Leg(model).checkpoint.prompts[:2]
    found = decoder(model).continued(prompts, NEW)
    return tuple(
        (Request(f"r{number}", each.prompt, NEW), tuple(map(int, each.tokens))) for number, each in enumerate(found)
    )


@cache
def _trace(model: str) -> tuple[Trace, Mapping[str, NDArray[Any]]]:
    sequences = [(*request.prompt, *tokens) for request, tokens in _continued(model)]
    trace = decoder(model).trace(sequences)
    return trace, tolerances.along(decoder(model), trace, "float32")


def truth(model: str = "llama") -> Truth:
    trace, allowed = _trace(model)
    return Truth(trace, tuple(request.name for request, _ in _continued(model)), Place(), allowed)


def passes(model: str = "llama", slots: Mapping[str, Sequence[int]] | None = None) -> tuple[Pass, ...]:
    """One pass for both prompts, one for each token but the last; ``slots`` are all that a request comes to have."""
    true = truth(model)
    asked = [(request.name, len(request.prompt)) for request, _ in _continued(model)]
    own = slots or {name: range(16 * number + 16, 16 * number + 32) for number, (name, _) in enumerate(asked)}
    found = []
    for number in range(NEW):
        rows = [
            Token(name, position)
            for name, length in asked
            for position in range(length + number - 1 if number else 0, length + number)
        ]
        last = [Token(name, length + number - 1) for name, length in asked]
        held = [Token(name, position) for name, length in asked for position in range(length + number)]
        seen = []
        for point in true.trace.points:
            of = {"pool": held, "logits": last}.get(point.operator, rows)
            seen.append(Seen(point.module, point.output, point.value[true.rows(of)], tuple(of)))
        mode = "decode" if number else "extend"
        taken = {name: tuple(own[name][: length + number]) for name, length in asked}
        found.append(Pass(number, mode, tuple(rows), tuple(seen), taken))
    return tuple(found)


def changed(given: Sequence[Pass], number: int, change: Change) -> tuple[Pass, ...]:
    """The passes with one of them seen otherwise: a value is left out where ``change`` answers None."""
    seen = tuple(new for old in given[number].seen if (new := change(old)) is not None)
    return tuple(replace(each, seen=seen) if each.number == number else each for each in given)


def spoilt(module: str, output: str = "", row: int = -1, by: float = 1.0) -> Change:
    """A change of one number of a module's."""

    def change(seen: Seen) -> Seen:
        if (seen.module, seen.output) != (module, output):
            return seen
        value = seen.value.copy()
        value[row, 0] += by
        return replace(seen, value=value)

    return change


def served(given: Sequence[Pass], model: str = "llama", **changes: Any) -> Served:
    """What was served by these passes: the right tokens, by the logits that were seen."""
    answers = {}
    for number, (request, tokens) in enumerate(_continued(model)):
        logits = tuple(np.array(each.seen[-1].value[number]) for each in given)
        answers[request.name] = Answer(request, tokens, logits, (False,) * len(logits), "length")
    parts = {"pool": "sglang.Pool", "allocator": "sglang.Allocator", "attention": "sglang.Attention"}
    found = Served(Leg(model), 0, answers, tuple(given), _NOTHING, _NOTHING, classes=parts)
    return replace(found, **changes)
