"""The decode steps of a leg with graphs: how many requests each had, whether a graph gave it, and whether it is right.

What a graph replays calls no module, so there the logits alone are seen. A wrong one after steps that were right is
born in the graph that gave it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...journey import tolerances
from ...journey.checkpoints import Checkpoint
from ...journey.served import Answer, Served
from ...oracles.decoders.decoder import Decoder, Trace
from .. import expect
from . import blaming, judging

_MEMBERS = ("get_graph_runner_cls", "get_full_graph_backend_cls")


@dataclass(frozen=True)
class Step:
    """A decode step of so many requests, by a graph or not; ``made`` tells the numbers of the tokens it gave."""

    number: int
    size: int
    by_graph: bool
    made: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return (
            f"pass {self.number}, a decode step of {self.size} {'by a graph' if self.by_graph else 'without a graph'}"
        )


@dataclass(frozen=True)
class Oracle:
    """What the logits should be, and how far off they may be, for each row of a batch of whole sequences."""

    trace: Trace
    allowed: Any

    @staticmethod
    def of(served: Served) -> Oracle:
        """The oracle of the leg's own model."""
        true = judging.truth(served)
        return Oracle(true.trace, true.tolerances["logits_processor"])

    @staticmethod
    def with_weights(served: Served, checkpoint: Checkpoint) -> Oracle:
        """The oracle of other weights, which the model has been given."""
        decoder = Decoder.of(checkpoint.config, checkpoint.weights())
        trace = decoder.trace(tuple(answer.sequence for answer in served.answers.values()))
        return Oracle(trace, tolerances.along(decoder, trace, served.leg.dtype)["logits_processor"])


def steps(served: Served) -> Iterator[Step]:
    """The decode steps that gave tokens, in order."""
    for each in served.passes:
        if each.mode != "decode":
            continue
        made = [
            (name, position + 1 - len(served.answers[name].request.prompt))
            for name, position in ((row.request, row.position) for row in each.rows)
        ]
        kept = tuple((name, number) for name, number in made if number < len(served.answers[name].by_graph))
        if kept:
            graphs = {served.answers[name].by_graph[number] for name, number in kept}
            yield Step(each.number, len(each.rows), graphs == {True}, kept)


def are_right(served: Served, wanted: Callable[[Step], bool], oracle: Oracle | None = None) -> None:
    """Fail where the first step with a wrong logit is a wanted one.

    Steps after one that is wrong have nothing to tell: what it wrote to the pool may be wrong too. NotReached where no
    wanted step comes before it; Declined where there is no such step at all.
    """
    true, count = oracle or Oracle.of(served), 0
    for answer in served.answers.values():
        wrong = _wrong(served, answer, 0, true)
        if wrong:
            raise expect.NotReached(f"serving {served.leg}: the prefill, before any graph, is wrong: {wrong[0]}")
    for step in steps(served):
        for name, number in step.made:
            wrong = _wrong(served, served.answers[name], number, true)
            if wrong and wanted(step):
                _tell(served, step, *wrong)
            if wrong and not count:
                raise expect.NotReached(f"serving {served.leg}: {step} is wrong before: {wrong[0]}")
            if wrong:
                return
        count += wanted(step)
    if not count:
        raise expect.Declined(f"serving {served.leg}: there is no such decode step")


def is_of(served: Served, oracle: Oracle, when: str) -> None:
    """Fail where a logit, of prefill or of decode, is not what the oracle gives."""
    for answer in served.answers.values():
        for made in range(len(answer.tokens)):
            wrong = _wrong(served, answer, made, oracle)
            if wrong:
                which, expected, seen = wrong
                call = f"serving {served.leg}: {which}, {when}"
                expect.fail(expected=expected, seen=seen, call=call, where=blaming.place("post_load_model"))


def _wrong(served: Served, answer: Answer, made: int, true: Oracle) -> tuple[str, str, str] | None:
    """The worst logit for a token, where it is off by too much: which it is, what it should be, and what it is."""
    import numpy as np

    if made >= len(answer.logits):
        return None
    number = list(served.answers).index(answer.request.name)
    row = true.trace.batch.row(number, len(answer.request.prompt) + made - 1)
    right = true.trace.logits[row]
    seen = answer.logits[made][: len(right)]
    off = np.abs(seen - right)
    column = int(np.where(np.isnan(off), np.inf, off).argmax())
    if off[column] <= true.allowed[row]:
        return None
    which = f"the logit of {column} for token {made} of request {answer.request.name}"
    expected = f"{right[column]:.6g} within {true.allowed[row]:.2g}"
    return which, expected, f"{seen[column]:.6g}{_resembles(served, seen, true)}"


def _resembles(served: Served, seen: Any, true: Oracle) -> str:
    """Whose logits they are, where they are those of another token of the batch."""
    import numpy as np

    off = np.abs(true.trace.logits - seen).max(axis=1)
    row = int(np.where(np.isnan(off), np.inf, off).argmin())
    if not off[row] <= true.allowed[row]:
        return ""
    for name, span in zip(served.answers, true.trace.batch.spans, strict=True):
        if span.start <= row < span.stop:
            made = row - span.start + 1 - len(served.answers[name].request.prompt)
            return f": all are those for token {made} of request {name}"
    return ""


def _tell(served: Served, step: Step, which: str, expected: str, seen: str) -> None:
    given = " or ".join(f"{name}()" for name in _MEMBERS if blaming.place(name))
    expect.fail(
        expected=expected,
        seen=seen,
        call=f"serving {served.leg}: {which}, in {step}, on rank {served.rank}",
        where=place(served),
        cause=f"all steps before are right; this is by {_by(served.classes)}{f', by {given}' if given else ''}"
        if step.by_graph
        else "all steps before are right: those that graphs gave have left something wrong behind",
    )


def place(served: Served | None = None) -> str:
    """The vendor's line of what has the graphs."""
    own = served.places.get("graphs", "") if served is not None else ""
    return own or next(filter(None, map(blaming.place, _MEMBERS)), "")


def _by(classes: Mapping[str, str]) -> str:
    return f"a graph of {classes['graphs']}" if "graphs" in classes else "a graph"
