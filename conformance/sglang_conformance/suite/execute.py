"""The jobs that probes run for the suite: enter the host, resolve the platform, run the body of one check.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..contract.model import Contract
from ..hosts.enter import enter, enter_alone, load_device_backends, resolve
from ..probes.server import Probe
from ..subject import Subject
from .aids import elsewhere, operators
from .declare import parameters
from .drawing import alike, drawing
from .expect import Declined, HostDefect, NotReached, Violation

_COMMUNICATORS = "sglang.srt.distributed.device_communicators."


@dataclass(frozen=True)
class Stage:
    """What a check in a probe may ask for by a parameter's name; beside it, its ``deadline`` in seconds.

    ``host``: reference or installed. ``platform``: the resolved platform; None where the stage is the host alone.
    """

    host: str
    contract: Contract
    subject: Subject
    platform: Any = None


def enter_host(probe: Probe, kind: str, table: Mapping[str, Any], subject: Mapping[str, Any]) -> tuple[Stage, None]:
    """Warm: the host is imported, and nothing of the vendor's."""
    judged = Subject.from_json(subject)
    return Stage(kind, enter_alone(kind, table, judged.providers), judged), None


def resolve_platform(
    probe: Probe, kind: str, table: Mapping[str, Any], subject: Mapping[str, Any]
) -> tuple[Stage, dict[str, Any]]:
    """Warm: the host has loaded the plugins and resolved the platform. Its value: what the platform says it is."""
    load_device_backends()
    contract = enter(kind, table)
    platform = resolve()
    return Stage(kind, contract, Subject.from_json(subject), platform), facts(platform)


def facts(platform: Any) -> dict[str, Any]:
    """What the certificate records of a resolved platform, as plain data; asks no device."""
    kind = type(platform)
    capabilities = getattr(platform, "capabilities", None)
    fields = getattr(type(capabilities), "__annotations__", {})
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "enum": getattr(getattr(platform, "_enum", None), "name", ""),
        "device_name": str(getattr(platform, "device_name", "")),
        "device_type": str(getattr(platform, "device_type", "")),
        "capabilities": {name: bool(getattr(capabilities, name, False)) for name in fields},
        "graphs": _declares_graphs(platform),
        "pynccl": _declares_pynccl(platform),
        "custom-allreduce": _declares_custom_all_reduce(platform),
    }


def _declares_graphs(platform: Any) -> bool:
    """Whether the platform claims device graphs: by its capabilities (0.5.22 on) or by the flag before."""
    capabilities = getattr(platform, "capabilities", None)
    if capabilities is not None:
        return bool(getattr(capabilities, "graph_capture", False))
    flag = getattr(platform, "support_cuda_graph", None)
    return bool(flag()) if callable(flag) else False


def _declares_pynccl(platform: Any) -> bool:
    """Whether the platform claims PyNCCL: by its capabilities (0.5.23 on). Before, SGLang tries it for every platform,
    and whoever has it work there, on a device that is not SGLang's own, has hooked it.
    """
    declared = getattr(getattr(platform, "capabilities", None), "supports_pynccl", None)
    if declared is not None:
        return bool(declared)
    if not platform.is_out_of_tree():
        return bool(platform.is_cuda() or platform.is_rocm())
    return _hooked("pynccl")


def _declares_custom_all_reduce(platform: Any) -> bool:
    """Whether the platform claims a custom all-reduce. No release has a word for it: SGLang has one for its own
    devices, and whoever has one on another device has hooked SGLang's choice of it.
    """
    if not platform.is_out_of_tree():
        return bool(platform.is_cuda() or platform.is_rocm() or getattr(platform, "is_musa", bool)())
    return _hooked("custom_all_reduce")


def _hooked(communicator: str) -> bool:
    """Whether a plugin has hooked something in the modules of that communicator."""
    registry = getattr(sys.modules.get("sglang.srt.plugins.hook_registry"), "HookRegistry", None)
    return any(target.startswith(_COMMUNICATORS + communicator) for target in getattr(registry, "_patched", ()))


def forks_badly(probe: Probe) -> bool:
    """Whether the platform's device says that it does not survive a fork of the process that resolved it."""
    torch = sys.modules.get("torch")
    module = getattr(torch, str(getattr(probe.state.platform, "device_type", "")), None)
    ask = getattr(module, "_is_in_bad_fork", None)
    return bool(ask()) if callable(ask) else False


def nothing(probe: Probe) -> None:
    """A job that does nothing: what it takes is what a probe costs."""


def run(probe: Probe, module: str, name: str, examples: int, deadline: float) -> dict[str, Any]:
    """Run one check's body on the stage that this probe was forked from."""
    if probe.state.platform is None:
        load_device_backends()
    return _run(probe.state, module, name, examples, deadline)


def resolve_and_run(
    probe: Probe, entering: Mapping[str, Any], module: str, name: str, examples: int, deadline: float
) -> dict[str, Any]:
    """Run one check's body on a platform resolved for it alone: for platforms that do not survive a fork."""
    stage, _ = resolve_platform(probe, **entering)
    return _run(stage, module, name, examples, deadline)


def call(body: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Call a check's body with what its parameters name; what it found, as plain data.

    What a body returns, a text, is kept with the outcome; so is what shows a defect of the host. A violation is
    re-raised: it travels with its traceback.
    """
    try:
        noted = body(**{name: given[name] for name in parameters(body)})
    except Declined as refusal:
        return {"outcome": "unsupported", "message": str(refusal)}
    except NotReached as missing:
        return {"outcome": "blocked", "message": str(missing)}
    except HostDefect as defect:
        return {"outcome": "host-defect", "message": str(defect), "finding": defect.finding}
    except Exception as error:
        violation = _violation_in(error)
        if lacking := operators.refused(violation or error, given):
            return {"outcome": "host-defect", "message": lacking}
        if lacking := elsewhere.lacked(violation or error, given):
            return {"outcome": "blocked", "message": lacking}
        raise violation or error from None
    return {"outcome": "pass", "message": noted or ""}


def _violation_in(error: BaseException) -> Violation | None:
    """The violation among the errors that hypothesis groups where a failure did not show again in the same way."""
    if isinstance(error, Violation):
        return error
    return next(filter(None, map(_violation_in, getattr(error, "exceptions", ()))), None)


def _run(stage: Stage, module: str, name: str, examples: int, deadline: float) -> dict[str, Any]:
    body = getattr(importlib.import_module(module), name)
    given = {**vars(stage), "deadline": deadline}
    if not hasattr(body, "hypothesis"):
        return call(body, given)
    with alike():
        return call(drawing(examples)(body), given)
