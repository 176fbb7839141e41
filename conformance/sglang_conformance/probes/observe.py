"""What code did to the process it ran in: environment, modules, patches, threads, signals, working folder.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import operator
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator, Mapping
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
    namespaces: Mapping[str, tuple[Any, Mapping[str, Any]]]
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
        namespaces=_namespaces(),
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
        patches=tuple(sorted(_patches(before.namespaces, after.namespaces))),
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


def _native_threads() -> set[int]:
    """The threads of this process; one that was joined may need a moment yet to leave the kernel's list."""
    natives: set[int] = set()
    for _ in range(5):
        known = {os.getpid(), *(thread.native_id for thread in threading.enumerate() if thread.native_id is not None)}
        try:
            natives = {int(thread) for thread in os.listdir("/proc/self/task")}
        except OSError:
            return known
        if natives <= known:
            break
        time.sleep(0.002)
    return natives


def _thread_names(natives: frozenset[int]) -> list[str]:
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    return [known.get(native, f"native thread {native}") for native in natives]


def _namespaces() -> dict[str, tuple[Any, dict[str, Any]]]:
    """The watched modules, and the classes they define, by their paths: each with a copy of its namespace."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for module_name, module in list(sys.modules.items()):
        watched = module_name in WATCHED or module_name.partition(".")[0] == "sglang"
        if not watched or type(module) is not types.ModuleType:
            continue
        names = dict(vars(module))
        found[module_name] = (module, names)
        for name, value in names.items():
            # type(), not isinstance(): the latter runs the __class__ properties of torch's deprecated names.
            if issubclass(type(value), type) and value.__module__ == module_name:
                found[f"{module_name}.{name}"] = (value, dict(vars(value)))
    return found


def _patches(
    before: Mapping[str, tuple[Any, Mapping[str, Any]]], after: Mapping[str, tuple[Any, Mapping[str, Any]]]
) -> Iterator[str]:
    """Functions and classes that are another object now. What is new patches what it hides in a base class."""
    for path, (owner, old) in before.items():
        new = after[path][1] if path in after and after[path][0] is owner else old
        if list(new) == list(old) and all(map(operator.is_, new.values(), old.values())):
            continue
        for name, value in old.items():
            if new.get(name) is not value and _is_function_or_class(value):
                yield f"{path}.{name}"
        if isinstance(owner, type):
            for name in new.keys() - old.keys():
                if any(_is_function_or_class(vars(base).get(name)) for base in owner.__mro__[1:]):
                    yield f"{path}.{name}"


def _is_function_or_class(value: Any) -> bool:
    return issubclass(type(value), _FUNCTIONS)


_FUNCTIONS = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    staticmethod,
    classmethod,
    property,
)


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
