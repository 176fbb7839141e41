"""What code did to the process it ran in: environment, modules, patches, threads, signals, working folder.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

WATCHED = frozenset(
    {
        *("torch", "torch._tensor", "torch.amp", "torch.autograd", "torch.autograd.grad_mode", "torch.compiler"),
        *("torch.cuda", "torch.cuda.graphs", "torch.cuda.memory", "torch.cuda.streams", "torch.distributed"),
        *("torch.distributed.distributed_c10d", "torch.jit", "torch.library", "torch.multiprocessing"),
        *("torch.nn.functional", "torch.nn.init", "torch.nn.modules.module", "torch.nn.parameter"),
        *("torch.optim.optimizer", "torch.profiler", "torch.random", "torch.serialization", "torch.storage"),
        *("torch.utils", "torch.utils.cpp_extension", "torch.utils.data", "torch.utils._python_dispatch"),
        *(
            "builtins",
            "importlib",
            "importlib.metadata",
            "json",
            "logging",
            "multiprocessing",
            "multiprocessing.context",
        ),
        *("multiprocessing.process", "os", "pkgutil", "signal", "subprocess", "sys", "threading"),
    }
)
"""The modules whose functions and classes are watched for patches, with all of ``sglang``: where vendors patch. Not all
of torch: its two thousand modules would cost a quarter of a second each time."""


@dataclass(frozen=True)
class Changes:
    """The difference between two moments of one process.

    ``environment`` maps a variable to (before, after), None where it was not set. ``modules`` are the new entries of
    ``sys.modules``, ``stubs`` those of them that no import made. ``patches`` are functions and classes of the watched
    modules (``WATCHED``) that are another object now, as ``torch.Tensor.to``. ``threads`` are those now running that
    were not, ``signals`` those whose handler changed, ``folder`` the new working folder if it changed, ``paths`` what
    was added to the import path, ``devices`` the torch device modules that were initialised meanwhile.
    """

    environment: Mapping[str, tuple[str | None, str | None]]
    modules: tuple[str, ...]
    stubs: tuple[str, ...]
    patches: tuple[str, ...]
    threads: tuple[str, ...]
    signals: tuple[str, ...]
    folder: str
    paths: tuple[str, ...]
    devices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, to leave the probe."""
        return asdict(self)


@dataclass(frozen=True)
class Moment:
    """The state of this process at one moment, as far as :class:`Changes` speaks of it."""

    environment: Mapping[str, str]
    modules: Mapping[str, Any]
    members: Mapping[str, Any]
    threads: frozenset[int]
    signals: Mapping[int, Any]
    folder: str
    paths: tuple[str, ...]
    devices: frozenset[str]


def observe() -> Moment:
    """Take down the state of this process; a few milliseconds with torch imported."""
    return Moment(
        environment=dict(os.environ),
        modules=dict(sys.modules),
        members=_members(),
        threads=frozenset(_native_threads()),
        signals={number: signal.getsignal(number) for number in signal.valid_signals()},
        folder=_folder(),
        paths=tuple(sys.path),
        devices=frozenset(_initialised_devices()),
    )


def changes(before: Moment, after: Moment) -> Changes:
    """What happened between two moments of this process."""
    names = sorted(set(before.environment) | set(after.environment))
    environment = {
        name: (before.environment.get(name), after.environment.get(name))
        for name in names
        if before.environment.get(name) != after.environment.get(name)
    }
    new = {name: module for name, module in after.modules.items() if name not in before.modules}
    return Changes(
        environment=environment,
        modules=tuple(sorted(new)),
        stubs=tuple(sorted(name for name, module in new.items() if _is_stub(module))),
        patches=tuple(sorted(_patches(before.members, after.members))),
        threads=tuple(sorted(_thread_names(after.threads - before.threads))),
        signals=tuple(
            signal.Signals(number).name if number in set(signal.Signals) else str(number)
            for number, handler in after.signals.items()
            if before.signals.get(number) != handler
        ),
        folder="" if before.folder == after.folder else after.folder,
        paths=tuple(path for path in after.paths if path not in before.paths),
        devices=tuple(sorted(after.devices - before.devices)),
    )


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "<removed>"


def _native_threads() -> list[int]:
    try:
        return [int(thread) for thread in os.listdir("/proc/self/task")]
    except OSError:
        return [thread.native_id for thread in threading.enumerate() if thread.native_id is not None]


def _thread_names(natives: frozenset[int]) -> list[str]:
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    return [known.get(native, f"native thread {native}") for native in natives]


def _members() -> dict[str, Any]:
    """The functions and classes of the watched modules, and the functions of their classes, by their paths."""
    found: dict[str, Any] = {}
    for module_name, module in list(sys.modules.items()):
        if module_name not in WATCHED and module_name.partition(".")[0] != "sglang":
            continue
        for name, value in list(vars(module).items()) if type(module) is types.ModuleType else ():
            # type(), not isinstance(): the latter runs the __class__ properties of torch's deprecated names.
            if issubclass(type(value), type):
                found[f"{module_name}.{name}"] = value
                if value.__module__ == module_name:
                    inner = vars(value).items()
                    found.update({f"{module_name}.{name}.{n}": m for n, m in list(inner) if _is_function(m)})
            elif _is_function(value):
                found[f"{module_name}.{name}"] = value
    return found


def _is_function(value: Any) -> bool:
    return issubclass(type(value), _FUNCTIONS)


_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    staticmethod,
    classmethod,
    property,
)


def _patches(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is another object now, or no function any more; what is new is no patch."""
    modules = sys.modules
    return [path for path, value in before.items() if after.get(path, _now(path, modules)) is not value]


def _now(path: str, modules: Mapping[str, Any]) -> Any:
    """What stands at a path now, function or not; the module's longest name is found first."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        owner = modules.get(".".join(parts[:cut]))
        if owner is not None:
            for name in parts[cut:]:
                owner = vars(owner).get(name) if hasattr(owner, "__dict__") else None
            return owner
    return None


def _is_stub(module: Any) -> bool:
    """A module that no finder made: put into ``sys.modules`` by hand."""
    return isinstance(module, types.ModuleType) and getattr(module, "__spec__", None) is None


def _initialised_devices() -> list[str]:
    """The torch device modules that say they are initialised."""
    torch = sys.modules.get("torch")
    found = []
    for name, module in list(vars(torch).items()) if torch else []:
        ask = getattr(module, "is_initialized", None) if isinstance(module, types.ModuleType) else None
        if ask is not None and hasattr(module, "device_count"):
            try:
                if ask():
                    found.append(name)
            except Exception:
                continue
    return found
