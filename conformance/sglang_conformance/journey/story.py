"""A journey as a record: what was served on which platform, what its processes did, and where it failed first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .expected import Alive, Finding, alive
from .order import Fault
from .rows import QUESTIONS
from .trace import FAILED, Event, Trace

SCHEMA = "sglang-conformance/journey/1"


@dataclass(frozen=True)
class Failure:
    """Why a leg did not come to its end, or its tokens are wrong.

    ``member``: of the platform, or the operator, moment or hook that is at fault; empty where none is known. ``caller``
    is the line that called it, ``cause`` the line of code that is to be looked at, each empty where unknown; ``at``
    is in seconds since the first process began.
    """

    what: str
    why: str = ""
    member: str = ""
    role: str = ""
    caller: str = ""
    cause: str = ""
    fault: Fault = "unknown"
    at: float | None = None


@dataclass(frozen=True)
class Served:
    """One leg: a model, served once. ``name`` says how: ``llama, TP 2, graphs, float32``.

    Of the ``tokens`` that were made, ``right`` are those of the oracle. ``margin`` is the largest difference of a logit
    as a part of what the dtype may differ by; None where it was not seen. ``sample`` are the first tokens of the first
    request. ``seconds`` are from the first request to the last token, ``first_token`` from the first request on.
    """

    name: str
    requests: int = 0
    tokens: int = 0
    right: int = 0
    sample: tuple[int, ...] = ()
    margin: float | None = None
    seconds: float | None = None
    first_token: float | None = None
    traces: tuple[Trace, ...] = ()
    findings: tuple[Finding, ...] = ()
    failure: Failure | None = None
    not_run: str = ""

    @property
    def good(self) -> bool:
        """Whether it was served, every token right."""
        return not self.not_run and self.failure is None and self.right == self.tokens

    @property
    def speed(self) -> float | None:
        """Tokens a second."""
        return self.tokens / self.seconds if self.seconds and self.tokens else None

    @property
    def began(self) -> float:
        """When the first of its processes began, on the monotonic clock."""
        return min((trace.began for trace in self.traces), default=0.0)

    @property
    def hooks(self) -> tuple[Alive, ...]:
        """The plugin's hooks, and where they ran."""
        return alive(self.traces)


@dataclass(frozen=True)
class Journey:
    """All legs on one platform. ``release`` is SGLang's, ``host`` is reference or installed."""

    platform: str
    distribution: str
    version: str
    platform_class: str
    host: str
    release: str
    device: str
    machine: str
    kit: str
    date: str
    legs: tuple[Served, ...] = ()

    @property
    def good(self) -> bool:
        """Whether every leg was served, and some was."""
        run = [leg for leg in self.legs if not leg.not_run]
        return bool(run) and all(leg.good for leg in run)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is not as the contract says, once each."""
        return tuple(dict.fromkeys(finding for leg in self.legs for finding in leg.findings))

    @property
    def failed(self) -> Served | None:
        """The first leg that was not served, or not right."""
        return next((leg for leg in self.legs if not leg.not_run and not leg.good), None)

    @property
    def platform_told(self) -> str:
        """The platform, its distribution and its class."""
        package = f" of {self.distribution} {self.version}" if self.distribution else ", built into SGLang"
        return f"{self.platform}{package} ({self.platform_class})"

    @property
    def host_told(self) -> str:
        """The host and its release."""
        what = "the kit's reference of SGLang" if self.host == "reference" else "the installed SGLang"
        return f"{what} {self.release}"

    def to_json(self) -> dict[str, Any]:
        """The record as plain data; :meth:`from_json` reads it back unchanged."""
        data = {name: value for name, value in vars(self).items() if name != "legs"}
        legs = [{**_plain(leg), "traces": [trace.to_json() for trace in leg.traces]} for leg in self.legs]
        return {"schema": SCHEMA, **data, "legs": legs}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Journey:
        """Read a record; raises KeyError, TypeError or ValueError where the data is not one."""
        fields = dict(data)
        if fields.pop("schema") != SCHEMA:
            raise ValueError(f"the schema is {data['schema']!r}, not {SCHEMA}")
        return cls(**{**fields, "legs": tuple(map(_served, data["legs"]))})

    def dumps(self) -> str:
        """The record as the text of a file."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"


def first_failure(traces: Sequence[Trace]) -> Failure | None:
    """Where a leg failed first, as far as its processes tell; None where all of them ended in order.

    The innermost call whose error ended its process, else the call that never came back, else the moment in which a
    process ended: the others wait for one that failed, and are ended then. Of several, what began first.
    """
    start = min((trace.began for trace in traces), default=0.0)
    broken = [trace for trace in traces if not trace.ended]
    for look in (_raised, _hung, _gone):
        found = [failure for trace in broken if (failure := look(trace, trace.began - start)) is not None]
        if found:
            return min(found, key=lambda failure: failure.at or 0.0)
    return None


def _raised(trace: Trace, offset: float) -> Failure | None:
    deadly = _deadly(trace)
    if deadly is None:
        return None
    told = trace.first("moment", FAILED)
    cause = str(told.by) if told and told.by.line else ""
    if deadly.kind == "moment":
        return _by_the_core(trace, deadly, offset, cause)
    return replace(_failure(trace, deadly, offset, f"{_told(deadly)} raised {deadly.error}", ""), cause=cause)


def _by_the_core(trace: Trace, event: Event, offset: float, cause: str) -> Failure:
    """An error that no call of the platform raised: the core, or a hook, was not content with what it had."""
    asked = [e for e in trace.from_core() if e.number < event.number and not e.name.startswith(QUESTIONS)]
    last = asked[-1] if asked else None
    answer = f" = {last.result}" if last and last.result else ""
    why = f"the platform was last asked {last}{answer}" if last else ""
    member = last.name if last and last.name in event.error else ""
    caller = str(last.by) if last and last.by.line else ""
    what = event.error if event.name == FAILED else f"{_told(event)} raised {event.error}"
    fault: Fault = "platform" if member else "unknown"
    return Failure(what, why, member, str(trace.role), caller, cause, fault, offset + event.at)


def _hung(trace: Trace, offset: float) -> Failure | None:
    standing = [event for event in trace.events if not event.ended and event.kind in ("call", "hook")]
    if not standing:
        return None
    why = "the process ended, or was ended, inside it"
    return _failure(trace, standing[-1], offset, f"{_told(standing[-1])} did not return", why)


def _gone(trace: Trace, offset: float) -> Failure | None:
    if not trace.events:
        return Failure("the process ended before anything was seen of it", role=str(trace.role), at=offset)
    last = trace.events[-1]
    moment = next((e for e in (last, *trace.around(last)) if e.kind == "moment" and not e.ended), None)
    what = f'the process ended within "{moment.name}"' if moment else f"the process ended after {_told(last)}"
    member = moment.name if moment else ""
    return Failure(what, "it said nothing of why", member, str(trace.role), at=offset + (moment or last).at)


def _deadly(trace: Trace) -> Event | None:
    """The innermost event with the error that the last failed one had: where it was born."""
    failed = [event for event in trace.events if event.error and event.kind != "applied"]
    if not failed:
        return None
    # The outermost that failed last is what ended the process; the error was raised in the innermost that has it.
    last = max(failed, key=lambda event: (event.until, -event.number))
    same = [event for event in failed if event.error == last.error and event.until <= last.until]
    calls = [event for event in same if event.kind in ("call", "hook")]
    return calls[-1] if calls else same[-1]


def _failure(trace: Trace, event: Event, offset: float, what: str, why: str) -> Failure:
    caller = str(event.by) if event.by.line else ""
    return Failure(what, why, event.name, str(trace.role), caller, fault="platform", at=offset + event.at)


def _told(event: Event) -> str:
    return str(event) if event.kind == "call" else f'"{event.name}"'


def _plain(leg: Served) -> dict[str, Any]:
    data = {name: value for name, value in vars(leg).items() if name != "traces"}
    findings = [finding.to_json() for finding in leg.findings]
    return {**data, "sample": list(leg.sample), "findings": findings, "failure": leg.failure and asdict(leg.failure)}


def _served(data: Mapping[str, Any]) -> Served:
    return Served(
        **{
            **data,
            "sample": tuple(data["sample"]),
            "traces": tuple(map(Trace.from_json, data["traces"])),
            "findings": tuple(Finding(**finding) for finding in data["findings"]),
            "failure": Failure(**data["failure"]) if data["failure"] else None,
        }
    )
