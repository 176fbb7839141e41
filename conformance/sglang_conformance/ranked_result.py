"""What the reports of all ranks say of a check, as the result of one probe would.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .blame import stack_in, vendor_line
from .certificate.model import Finding
from .probes.result import Failure, Result
from .ranks.board import Disagreement
from .ranks.report import GroupReport, RankReport

_DISAGREEMENT = Disagreement.__name__
_REFUSED = "every rank is refused what the check calls, with an error"


def found(outcome: str, message: str, finding: Mapping[str, Any] | None = None) -> Result:
    """The result of a body that ended with an outcome."""
    return Result({"outcome": outcome, "message": message, "finding": finding})


def agreed(report: GroupReport) -> Result:
    """What all ranks found, none of which failed; they must have found the same, and have been refused the same."""
    findings = [value.get("finding") for value in report.values]  # one may show a defect of the host in other numbers
    values = [{name: value[name] for name in value if name != "finding"} for value in report.values]
    first = values[0]
    if any(value != first for value in values):
        seen = ", ".join(f"rank {rank.rank}: {_told(rank.value)}" for rank in report.ranks)
        return _violation(Finding("the same on every rank", seen))
    refused = first["outcome"] == "pass" and first["served"] and not any(first["served"])
    if refused:
        return found("unsupported", _REFUSED)
    return found(first["outcome"], first["message"], next(filter(None, findings), None))


def cause(report: GroupReport) -> RankReport:
    """The rank whose failure is the cause: not one that only missed the others, where there is such a one."""
    return min(report.failures, key=_misses_others)  # the first of those, as they stand in their order


def failed(name: str, case: Mapping[str, Any], size: int, report: GroupReport) -> Result:
    """The causing rank's failure, with the case in which it failed and what all the others did."""
    rank = cause(report)
    if (failure := rank.failure) is None:
        raise ValueError("no rank failed")
    if failure.kind == "lost":  # nobody's plugin
        return found("not-run", f"rank {rank.rank} of {size} was lost: {failure.message}")
    given = ", ".join(f"{argument}={value!r}" for argument, value in case.items())
    example = f"Falsifying example: {name}({given}) on {size} ranks" if case else ""
    detail = "\n".join(filter(None, (example, report.text())))
    finding = _finding(rank, failure)
    if finding is None:  # an error of the vendor's code, or of the check itself: its frames tell
        return Result(None, replace(failure, traceback=f"{failure.traceback}\n{detail}"), report.text())
    call = f"rank {rank.rank} of {size}: {finding.call or rank.call}".rstrip(": ")
    return _violation(replace(finding, call=call, detail=detail))


def _told(value: Mapping[str, Any]) -> str:
    """What a rank found, in words."""
    refused = [str(number) for number, served in enumerate(value["served"], 1) if not served]
    calls = f"{', '.join(refused) or 'none'} of {len(value['served'])} calls refused" if value["served"] else ""
    return ", ".join(filter(None, (f"{value['outcome']} {value['message']}".strip(), calls)))


def _finding(rank: RankReport, failure: Failure) -> Finding | None:
    """What a check said of it, or what is to be said where it could not; None of any other error."""
    if failure.finding:
        return Finding(**failure.finding)
    if failure.kind == "raised":
        return Finding("the same call on every rank", failure.message) if failure.type == _DISAGREEMENT else None
    expected = "an answer before the deadline" if failure.kind in ("hung", "stopped") else "an answer, not an end"
    return Finding(expected, failure.message, rank.call, vendor_line(stack_in(rank.output)))


def _misses_others(rank: RankReport) -> bool:
    """Whether what its check saw, if it is that which failed, is only that another rank did not come."""
    finding = rank.failure.finding if rank.failure is not None else None
    return rank.follows or (finding is not None and str(finding["seen"]).startswith(_DISAGREEMENT))


def _violation(finding: Finding) -> Result:
    message = f"expected {finding.expected}; saw {finding.seen}"
    return Result(None, Failure("raised", "Violation", message, ("Violation",), finding=vars(finding)))
