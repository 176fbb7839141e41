"""A server under pressure: one schedule after another, none of which may give a wrong token or leave anything behind.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ...journey.leg import Leg
from ...journey.serve import Serving
from ...journey.served import Answer, Served
from .. import expect
from ..member import Member
from . import blaming, judging, legs, schedules, together
from .auditing import Audit
from .schedules import Schedule

_OFF = 1e-4  # what logits of a few units are off by in float32 is a tenth of this
WAITING, PREFILL, DECODE = "while it waited", "in prefill", "in decode"


@dataclass
class Pressed:
    """A server that is kept from schedule to schedule of a check, and what has come up so far.

    ``gave_way`` counts requests that had to begin anew, ``cached`` tokens that the prefix cache had, ``cancelled`` the
    requests that were given up, by what they were at.
    """

    member: Member
    serving: Serving
    asked: blaming.Asked
    count: int = 0
    gave_way: int = 0
    cached: int = 0
    cancelled: dict[str, int] = field(default_factory=dict)

    def serve(self, schedule: Schedule) -> Served:
        """Serve a schedule, and empty the server. Fails where a token is wrong, or something does not come back.

        All ranks of the group must call it alike.
        """
        served = self._serve(self.serving, schedule)
        self._note(served)
        self._has_come_back(served)
        self._tokens_are_right(served, schedule)
        return served

    def told(self) -> str:
        """What has come up, as a text."""
        parts = [f"{self.count} schedules", f"{self.gave_way} times a request gave way"]
        if self.cached:
            parts.append(f"{self.cached} tokens were found in the prefix cache")
        parts += [f"{count} requests were cancelled {when}" for when, count in sorted(self.cancelled.items())]
        return ", ".join(parts)

    def _serve(self, serving: Serving, schedule: Schedule) -> Served:
        try:
            return serving.serve(schedules.requests(schedule, serving.leg.checkpoint))
        except expect.Violation:
            raise
        except Exception as error:
            self.asked.tell(error, f"serving {serving.leg}")

    def _note(self, served: Served) -> None:
        self.count += 1
        self.gave_way += served.retracted
        self.cached += served.cached
        for answer in served.answers.values():
            if answer.request.leaves is not None and answer.reason != "length":
                when = WAITING if not answer.reason else DECODE if answer.tokens else PREFILL
                self.cancelled[when] = self.cancelled.get(when, 0) + 1

    def _has_come_back(self, served: Served) -> None:
        """Fail where slots or rows are missing: once all requests have gone, and once the prefix cache is empty."""
        server, leg = self.serving.server, self.serving.leg
        after = served.after
        where = served.places.get("allocator", "")
        expect.equal(
            after.available + after.evictable,
            after.total,
            call=f"serving {leg}: slots that are free, or the prefix cache's, when all requests have gone",
            where=where,
            cause=f"slots come from {served.classes['allocator']}, by get_paged_allocator_cls()",
        )
        if not server.forget():
            raise RuntimeError("the server cannot be emptied, though all requests have gone")
        expect.equal(
            {**server.memory()},
            {**vars(served.before)},
            call=f"serving {leg}: what is free once the prefix cache is emptied",
            where=where,
            cause="clear() of the allocator that get_paged_allocator_cls() gives makes every slot free",
        )

    def _tokens_are_right(self, served: Served, schedule: Schedule) -> None:
        """Fail where a request has other tokens than it would have alone; with where that is born, if that is seen."""
        whole = _as_far_as_they_went(served)
        if not any(self.member.side.to_all(_doubtful(whole))):
            return
        watching = Serving(self.serving.server, self.serving.leg, self.member.number)
        again = _as_far_as_they_went(self._serve(watching, schedule))
        judging.slots_are_nobodys_else(again)
        together.parts_are_right(self.member, again, blaming.MEMBERS)
        judging.tokens_are_right(again)
        judging.logits_are_right(again)
        cause = "served once more, the same schedule gives what is right: it hangs on what was served before"
        with blaming.because(cause):
            judging.tokens_are_right(whole)
            judging.logits_are_right(whole)


def pressed(member: Member, *, tp: int = 1, **asked: Any) -> Pressed:
    """A server with few slots, kept until the check has run its last case: for this, and what else is ``asked``."""
    leg = Leg("llama", tp=tp).with_arguments({**schedules.ARGUMENTS, **asked})
    return member.keep(leg, lambda: server(member, leg))


@contextlib.contextmanager
def server(member: Member, leg: Leg) -> Iterator[Pressed]:
    """The leg's server on this rank, for a while; what its allocator answers is heard."""
    with blaming.asking() as asked, contextlib.ExitStack() as stack:
        try:
            serving = stack.enter_context(legs.serving(member, leg, watched=False))
        except Exception as error:
            asked.tell(error, f"serving {leg}")
        stack.enter_context(Audit(serving.server.allocator).on())
        yield Pressed(member, serving, asked)


def _as_far_as_they_went(served: Served) -> Served:
    """The same, as if those that were cancelled had asked for no more than they got."""
    return replace(served, answers={name: _cut(answer) for name, answer in served.answers.items()})


def _cut(answer: Answer) -> Answer:
    if answer.request.leaves is None:
        return answer
    return replace(answer, request=replace(answer.request, new=len(answer.tokens)))


def _doubtful(served: Served) -> bool:
    """Whether a token lacks, is not what float64 finds the likeliest, or was chosen by logits that are somewhat off."""
    import numpy as np

    answers = list(served.answers.values())
    trace = served.leg.decoder.trace([answer.sequence for answer in answers])
    for number, answer in enumerate(answers):
        if len(answer.tokens) != answer.request.new:
            return True
        row = trace.batch.row(number, len(answer.request.prompt) - 1)
        true = trace.logits[row : row + len(answer.tokens)]
        if not np.array_equal(true.argmax(axis=1), answer.tokens):
            return True
        seen = np.array([logits[: true.shape[1]] for logits in answer.logits])
        if len(seen) and not np.abs(seen - true).max() < _OFF:
            return True
    return False
