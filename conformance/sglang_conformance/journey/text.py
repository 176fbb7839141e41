"""The story of a journey for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ..certificate.text import cut, one_line
from ..console import WIDTH
from .expected import Alive, Finding
from .rows import Row, questions, rows
from .story import Failure, Journey, Served

_AT, _WHO, _TIME = 9, 13, 11
_LEAST = 24
_SAMPLE = 8


def lines(journey: Journey, width: int = WIDTH) -> Iterator[str]:
    """The whole story, wrapped to the width."""
    yield from heading(journey, width)
    for leg in journey.legs:
        yield from told(leg, width)
    yield from closing(journey, width)


def heading(journey: Journey, width: int = WIDTH) -> Iterator[str]:
    """What travels, and where."""
    yield f"journey of {journey.platform}, by sglang-conformance journey"
    facts = {
        "platform": journey.platform_told,
        "host": journey.host_told,
        "device": journey.device,
        "machine": journey.machine,
    }
    for label, text in facts.items():
        if text:
            yield from _wrapped(f"  {label:<9} ", one_line(text), width)


def told(leg: Served, width: int = WIDTH) -> Iterator[str]:
    """A leg: each step of its processes with its time, its hooks, and what was served."""
    yield ""
    if leg.not_run:
        yield from _wrapped(f"{leg.name}: ", f"not run: {one_line(leg.not_run)}", width, hang=2)
        return
    yield leg.name
    yield from _steps(leg, width)
    yield from _hooks(leg.hooks, width)
    yield from _served(leg, width)


def closing(journey: Journey, width: int = WIDTH) -> Iterator[str]:
    """What is not as the contract says, and how the journey ended."""
    if journey.findings:
        yield ""
        yield f"NOT AS THE CONTRACT SAYS ({len(journey.findings)})"
        for finding in journey.findings:
            yield from _finding(finding, width)
    yield ""
    yield from _verdict(journey, width)


def _steps(leg: Served, width: int) -> Iterator[str]:
    who = ""
    for row in rows(leg.traces):
        yield from _row(row, "" if row.who == who else row.who, width)
        who = row.who
    asked = questions(leg.traces)
    if asked:
        often = ", ".join(f"{name} {times}x" for name, times in sorted(asked.items(), key=lambda item: -item[1]))
        yield from _wrapped(" " * (_AT + 2), f"besides, asked what it is: {often}", width)
    for trace in leg.traces:
        if trace.blind:
            yield from _wrapped("  ", f"{trace.role}: its calls are not seen: {one_line(trace.blind)}", width)


def _row(row: Row, who: str, width: int) -> Iterator[str]:
    """When, who, what, how long; what does not fit goes on below, and so does who asked for it."""
    who = cut(who, _WHO - 1)
    head = f"{row.at:>{_AT - 2}.2f} s  {who:<{_WHO}}"
    indent = " " * (len(head) + 2 * row.depth)
    room = max(width - len(indent) - _TIME, _LEAST)
    what, *more = textwrap.wrap(_what(row), room, subsequent_indent="  ") or [""]
    asked = f"  by {row.asked}" if row.asked and not row.depth else ""
    if asked and not more and len(what) + len(asked) <= room:
        what, asked = what + asked, ""
    first = f"{head}{'  ' * row.depth}{what}"
    time = _took(row)
    yield f"{first}{time:>{max(width - len(first), len(time) + 2)}}".rstrip()
    yield from (f"{indent}{line}" for line in more)
    if asked:
        yield from _wrapped(indent + "  ", asked.strip(), width)
    if row.error and row.told:
        yield from _wrapped(indent + "! ", one_line(row.error), width)


def _what(row: Row) -> str:
    times = f" {row.times}x" if row.times > 1 else ""
    result = f" = {one_line(row.result)}" if row.result else ""
    return f"{one_line(row.text)}{times}{result}"


def _took(row: Row) -> str:
    if row.error:
        return "FAILED"
    if row.seconds is None:
        return "NO END"
    return "" if row.seconds < 5e-5 else lasted(row.seconds)


def lasted(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.{0 if seconds >= 0.1 else 1}f} ms"


def _hooks(found: tuple[Alive, ...], width: int) -> Iterator[str]:
    for hook in found:
        where = f"ran {hook.times}x in {', '.join(hook.ran)}" if hook.ran else "did not run"
        if " class " in hook.hook and hook.applied:
            where = f"in place in {', '.join(hook.applied)}"
        if not hook.applied:
            where = "COULD NOT BE APPLIED"
        text = f"{one_line(hook.hook)} on {one_line(hook.target)}: {where}"
        yield from _wrapped("  hook  ", text, width)


def _served(leg: Served, width: int) -> Iterator[str]:
    if leg.tokens:
        right = "all right" if leg.right == leg.tokens else f"{leg.tokens - leg.right} WRONG"
        parts = [f"{leg.requests} requests, {leg.tokens} tokens, {right}"]
        if leg.margin is not None:
            parts.append(f"logits differ by {leg.margin:.2g} of what is allowed")
        if leg.speed is not None:
            parts.append(f"{leg.speed:.0f} tokens/s" if leg.speed >= 10 else f"{leg.speed:.2g} tokens/s")
        if leg.first_token is not None:
            parts.append(f"the first after {lasted(leg.first_token)}")
        yield from _wrapped("  served  ", "; ".join(parts), width)
    if leg.sample:
        more = " …" if leg.tokens > len(leg.sample[:_SAMPLE]) else ""
        yield from _wrapped("  tokens  ", " ".join(map(str, leg.sample[:_SAMPLE])) + more, width)
    if leg.failure is not None:
        yield from _failure(leg.failure, width)


def _failure(failure: Failure, width: int) -> Iterator[str]:
    where = [f"in {failure.role}"] if failure.role else []
    where += [f"{failure.at:.2f} s after the start"] if failure.at is not None else []
    yield from _wrapped("  FAILED  ", ", ".join([one_line(failure.what), *where]), width)
    facts = {
        "why": failure.why,
        "member": failure.member,
        "called": f"by {failure.caller}" if failure.caller else "",
        "line": failure.cause,
    }
    for label, text in facts.items():
        if text:
            yield from _wrapped(f"          {label:<7} ", one_line(text), width)


def _finding(finding: Finding, width: int) -> Iterator[str]:
    yield from _wrapped("  ", f"{finding.role}: {one_line(finding.what)}", width, hang=4)
    place = f"{finding.caller}  " if finding.caller else ""
    yield from _wrapped("      ", f"{place}[{finding.rule}, {_FAULTS[finding.fault]}]", width)
    yield from _wrapped("      why:  ", one_line(finding.why), width)


_FAULTS = {
    "platform": "the platform's doing",
    "host": "SGLang's own doing",
    "unknown": "the core's order, or a hook in its way",
}


def _verdict(journey: Journey, width: int) -> Iterator[str]:
    run = [leg for leg in journey.legs if not leg.not_run]
    failed = journey.failed
    if failed is None:
        tokens = sum(leg.tokens for leg in run)
        text = (
            f"served {len(run)} of {len(journey.legs)} legs, {tokens} tokens, all right" if run else "nothing was run"
        )
        yield from _wrapped("", f"{journey.platform}: {text}", width, hang=2)
        return
    good = [leg for leg in run if leg.good]
    before = f"served {len(good)} of {len(journey.legs)} legs; " if good else ""
    failure = failed.failure
    if failure is None:
        how = f"{failed.tokens - failed.right} of {failed.tokens} tokens are wrong"
    else:
        member = f"look at {failure.member}" if failure.member and failure.member not in failure.what else ""
        how = "; ".join(filter(None, (one_line(failure.what), member)))
    yield from _wrapped("", f"{journey.platform}: {before}{failed.name} failed: {how}", width, hang=2)


def _wrapped(head: str, text: str, width: int, hang: int | None = None) -> Iterator[str]:
    indent = " " * (len(head) if hang is None else hang)
    width = max(width, len(head) + _LEAST)
    yield from textwrap.wrap(text, width, initial_indent=head, subsequent_indent=indent) or [head.rstrip()]
