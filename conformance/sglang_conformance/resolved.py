"""A platform that is resolved for a command, or why it is not, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .blame import stack_in, vendor_line
from .probes.client import Warm
from .probes.result import Failure, Result
from .stages import Stages
from .subject import Subject


class NotResolved(RuntimeError):
    """The platform could not be resolved, or is another; the text is one line that says why, with the vendor's line."""


def resolved(subject: Subject, stages: Stages, done: str) -> tuple[Warm, Mapping[str, Any]]:
    """The process that has resolved the platform, and what it says it is. Raises NotResolved.

    SGLang goes on without a platform where it finds no such device: then nothing of it would be ``done``.
    """
    platform, result = stages.platform
    if platform is None:
        raise NotResolved(f"the platform could not be resolved: {why(result)}")
    facts: Mapping[str, Any] = result.value
    kind = str(facts["enum"])
    if kind == "UNSPECIFIED" or (subject.in_tree and kind != subject.name.upper()):
        raise NotResolved(
            f"SGLang finds no {subject.name} on this machine, and resolves to {facts['class']} "
            f"on {facts['device_type']} instead: nothing of {subject.name} would be {done}"
        )
    return platform, facts


def why(result: Result) -> str:
    """How a job failed, in one line."""
    return told(result.failure, result.output) if result.failure is not None else "it did not say why"


def told(failure: Failure | None, output: str) -> str:
    """A failure in one line, with the vendor's."""
    if failure is None:
        return "no failure"
    text = f"{failure.type}: {failure.message}" if failure.kind == "raised" else failure.message
    if failure.kind == "hung":
        text = f"it hung, {text}; a longer --deadline helps where it is only slow"
    place = vendor_line(failure.frames) or vendor_line(stack_in(output))
    line = " ".join(text.split())
    return f"{line} ({place})" if place else line
