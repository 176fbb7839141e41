"""Asserts about the steps of a plugin's story, for the checks that read it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..blame import stack_in, vendor_line
from ..hosts.story import Step, Story
from . import expect

SHARED_VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *(
        "SGLANG_",
        "CUDA_",
        "HIP_",
        "ROCR_",
        "NCCL_",
        "TORCH_",
        "TORCHELASTIC_",
        "PYTORCH_",
        "PYTHONPATH",
        "OMP_",
        "LD_",
        "PATH",
        "HOME",
    ),
)
"""Variables that the host, torch, the launcher or every process reads: by name, or by a prefix that ends in ``_``."""

_HOST_ROOMS = ("sglang.srt.platforms", "sglang.srt.plugins", "sglang.srt.environ")


def came_through(story: Story, name: str, *, call: str, cause: str = "") -> Step:
    """The step, which must have been walked without an error."""
    step = _begun(story, name)
    if step.failure is not None:
        failure = step.failure
        raised = f"{failure.type}: {failure.message}" if failure.kind == "raised" else failure.message
        expect.fail(
            expected="no error",
            seen=raised,
            call=call,
            where=vendor_line(failure.frames) or vendor_line(stack_in(story.output)),
            cause=cause,
            detail=failure.traceback or story.output,
        )
    return step


def walked(story: Story, name: str) -> Step:
    """The step, with what it did to its process; NotReached where the plugin did not come to its end.

    Such a failure is another requirement's to report.
    """
    step = _begun(story, name)
    if not step.changes:
        raise expect.NotReached(f"the step {name!r} did not end")
    return step


def _begun(story: Story, name: str) -> Step:
    step = story.step(name)
    if step is None:
        failed = story.failed
        reached = f"it failed at {failed.name!r}" if failed else "it was not begun"
        raise expect.NotReached(story.obstacle or f"the plugin did not come as far as {name!r}: {reached}")
    return step


def kept_shared_variables(step: Step, *, call: str) -> None:
    """The step changed no variable that others read."""
    changed = {name: pair for name, pair in step.changes["environment"].items() if is_shared(name)}
    _unchanged(changed, step, call)


def kept_variables(step: Step, *, call: str) -> None:
    """The step changed no variable at all."""
    _unchanged(step.changes["environment"], step, call)


def patched_nothing(step: Step, *, call: str) -> None:
    """The step replaced no function or class of torch, SGLang or the standard library, nor planted a stub module."""
    expect.that(
        not step.changes["patches"],
        expected="torch, SGLang and the standard library as they were",
        seen=f"replaced: {listed(step.changes['patches'])}",
        call=call,
        where=_where(step),
    )
    expect.that(
        not step.changes["stubs"],
        expected="only modules that an import made",
        seen=f"put into sys.modules by hand: {listed(step.changes['stubs'])}",
        call=call,
        where=_where(step),
    )


def imported_no_subsystem(step: Step, *, call: str) -> None:
    """The step imported nothing of SGLang beyond what plugins are made of."""
    others = [
        name for name in step.changes["modules"] if name.startswith("sglang.srt.") and not name.startswith(_HOST_ROOMS)
    ]
    expect.that(
        not others,
        expected="nothing of SGLang but srt.platforms, srt.plugins and srt.environ",
        seen=listed(others),
        call=call,
        where=_where(step),
    )


def started_nothing(step: Step, *, call: str) -> None:
    """The step left no thread, signal handler or working folder behind."""
    left = {
        "threads": step.changes["threads"],
        "signal handlers": step.changes["signals"],
        "working folder": [step.changes["folder"]] if step.changes["folder"] else [],
    }
    seen = "; ".join(f"{what}: {listed(names)}" for what, names in left.items() if names)
    expect.that(not seen, expected="no thread, signal handler or working folder changed", seen=seen, call=call)


def started_no_device(step: Step, *, call: str) -> None:
    """The step initialised no device."""
    expect.that(
        not step.changes["devices"],
        expected="no device initialised",
        seen=f"initialised: {', '.join(f'torch.{name}' for name in step.changes['devices'])}",
        call=call,
        where=_where(step),
    )


def is_shared(variable: str) -> bool:
    """Whether a variable is one that others read: those above, and any vendor's list of visible devices."""
    named = any(variable == name or (name.endswith("_") and variable.startswith(name)) for name in SHARED_VARIABLES)
    return named or variable.endswith("VISIBLE_DEVICES")


def listed(names: Sequence[str], most: int = 4) -> str:
    """A few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _unchanged(changed: dict[str, Any], step: Step, call: str) -> None:
    expect.that(
        not changed, expected="the environment as it was", seen=_variables(changed), call=call, where=_where(step)
    )


def _variables(changed: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {before!r} became {after!r}" for name, (before, after) in changed.items())


def _where(step: Step) -> str:
    return str(step.value.get("where", ""))
