"""What code did to the process it ran in: environment, modules, patches, settings, threads, signals, working folder.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .patches import Namespaces, namespaces, patches, stubs
from .settings import settings, shown


@dataclass(frozen=True)
class Changes:
    """The difference between two moments of one process.

    ``environment`` maps a variable to (before, after), None where it was not set. ``modules`` are the new entries of
    ``sys.modules``, ``stubs`` those of them that no import made. ``patches`` are functions and classes of the watched
    modules (:data:`.patches.WATCHED`) that are another object now, as ``torch.Tensor.to``; ``settings`` those of
    :mod:`.settings` that changed, as text, (before, after). ``threads`` are those now running that were not,
    ``signals`` those whose handler changed, ``folder`` the new working folder if it changed, ``paths`` what was put on
    the import path before something that stood there, ``devices`` the torch device modules that were there and were
    initialised meanwhile.
    """

    environment: Mapping[str, tuple[str | None, str | None]]
    modules: tuple[str, ...]
    stubs: tuple[str, ...]
    patches: tuple[str, ...]
    settings: Mapping[str, tuple[str, str]]
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
    namespaces: Namespaces
    settings: Mapping[str, Any]
    threads: frozenset[int]
    signals: Mapping[int, Any]
    folder: str
    paths: tuple[str, ...]
    devices: Mapping[str, bool]


def observe() -> Moment:
    """Take down the state of this process; a few milliseconds with torch imported."""
    return Moment(
        environment=dict(os.environ),
        modules=dict(sys.modules),
        namespaces=namespaces(),
        settings=settings(),
        threads=frozenset(_native_threads()),
        signals={number: signal.getsignal(number) for number in signal.valid_signals()},
        folder=_folder(),
        paths=tuple(sys.path),
        devices=_devices(),
    )


def changes(before: Moment, after: Moment) -> Changes:
    """What happened between two moments of this process."""
    new = {name: module for name, module in after.modules.items() if name not in before.modules}
    changed = _changed_settings(before.settings, after.settings)
    replaced = set(patches(before.namespaces, after.namespaces, new_modules=new))
    if "default dtype" in changed:
        replaced.discard("torch.Storage")  # which torch then replaces itself
    return Changes(
        environment=_changed_variables(before.environment, after.environment),
        modules=tuple(sorted(new)),
        stubs=tuple(sorted(stubs(new))),
        patches=tuple(sorted(replaced)),
        settings=changed,
        threads=tuple(sorted(_thread_names(after.threads - before.threads))),
        signals=tuple(
            signal.Signals(number).name if number in set(signal.Signals) else str(number)
            for number, handler in after.signals.items()
            if before.signals.get(number) != handler
        ),
        folder="" if before.folder == after.folder else after.folder,
        paths=_put_before(before.paths, after.paths),
        devices=tuple(sorted(name for name, was in before.devices.items() if not was and after.devices.get(name))),
    )


def _changed_variables(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    names = sorted(set(before) | set(after))
    changed = {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}
    return {name: pair for name, pair in changed.items() if not _is_set_by_torch(name, *pair)}


def _is_set_by_torch(name: str, before: str | None, after: str | None) -> bool:
    """Whether torch's compiler set the variable when it was imported: to its own folder, where there was none."""
    caches = os.path.join(tempfile.gettempdir(), "torchinductor_")
    return (
        name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
        and before is None
        and after is not None
        and after.startswith(caches)
    )


def _changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        name: (shown(before[name]), shown(after[name]))
        for name in before.keys() & after.keys()
        if before[name] != after[name]
    }


def _put_before(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    """The new paths that hide what a path behind them, which was there, holds."""
    last = max((place for place, path in enumerate(after) if path in before), default=-1)
    return tuple(path for path in after[:last] if path not in before)


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


def _devices() -> dict[str, bool]:
    """The torch device modules, and whether they say that they are initialised."""
    torch = sys.modules.get("torch")
    found = {}
    for name, module in list(vars(torch).items()) if torch else []:
        ask = getattr(module, "is_initialized", None) if isinstance(module, types.ModuleType) else None
        if ask is not None and hasattr(module, "device_count"):
            try:
                found[name] = bool(ask())
            except Exception:
                continue
    return found
