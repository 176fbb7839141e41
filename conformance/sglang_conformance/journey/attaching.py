"""Attach a recorder to this process: to the platform as soon as it is resolved, to hooks, to moments of the core.

How a call is seen. The vendor's class is not wrapped, nor is the object replaced: one name is set on the class,
``__getattribute__``, and it answers as before but for this one object and the contract's methods, which it gives as
bound methods around the vendor's own. So the class, its methods and ``super()`` stay what they are, ``__slots__``,
``__setattr__`` or a metaclass of the vendor's are not asked, and methods that are set, hooked or patched later are seen
too. A profile function would slow every call of the process and give way to any other profiler; ``sys.monitoring`` is
there from Python 3.12 only, and cannot tell methods apart that share a decorator's code.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contract.model import Contract
from . import hooked, moments
from .recording import Recorder
from .trace import BEFORE, IMPORTED, RESOLVED, Role
from .whose import caller, calling

_PLATFORMS = "sglang.srt.platforms"
_RECORDED = frozenset({"method", "classmethod", "contextmanager"})

Patch = Callable[[types.ModuleType], None]


def start(role: Role, contract: Contract, folder: Path | None = None) -> Attached:
    """Record this process from now on, into a file in ``folder``.

    Call it before the host is entered; where that is the reference, which puts its finder before all others, call
    :meth:`Attached.again` once it is. What happened before is not seen. In a fork, call it anew, after
    :meth:`Attached.detach` where the parent was recorded.
    """
    members = frozenset(member.name for member in contract.members if member.kind in _RECORDED)
    attached = Attached(Recorder(role, folder), contract.release, members)
    attached.again()
    return attached


@dataclass
class Attached:
    """A recorder at work in this process."""

    recorder: Recorder
    release: str
    members: Collection[str]
    _undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _done: set[str] = field(default_factory=set)
    _watched: Any = None

    def again(self) -> None:
        """Attach to what has been imported since, and come first at whatever is imported from now on."""
        patches = self._patches()
        for finder in [finder for finder in sys.meta_path if isinstance(finder, _AfterImport)]:
            sys.meta_path.remove(finder)
        sys.meta_path.insert(0, _AfterImport({name: self._once(name, patch) for name, patch in patches.items()}))
        for name, patch in patches.items():
            module = sys.modules.get(name)
            spec = getattr(module, "__spec__", None)
            if module is not None and not getattr(spec, "_initializing", False):
                self._once(name, patch)(module)

    def detach(self) -> None:
        """Leave the process as it was."""
        for finder in [finder for finder in sys.meta_path if isinstance(finder, _AfterImport)]:
            sys.meta_path.remove(finder)
        self._undo.close()
        self._done.clear()

    def _patches(self) -> Mapping[str, Patch]:
        found: dict[str, Patch] = dict(moments.patches(self.recorder, self.release, self._undo))
        found["sglang.srt.plugins.hook_registry"] = self._both(
            functools.partial(hooked.patch, recorder=self.recorder, undo=self._undo),
            found.get("sglang.srt.plugins.hook_registry"),
        )
        found[_PLATFORMS] = self._resolution
        return found

    @staticmethod
    def _both(first: Patch, second: Patch | None) -> Patch:
        def patch(module: types.ModuleType) -> None:
            first(module)
            if second is not None:
                second(module)

        return patch

    def _once(self, name: str, patch: Patch) -> Patch:
        def patched(module: types.ModuleType) -> None:
            if name not in self._done:
                self._done.add(name)
                patch(module)

        return patched

    def _resolution(self, module: types.ModuleType) -> None:
        resolve = module._resolve_platform
        recorder = self.recorder

        @functools.wraps(resolve)
        def resolved() -> Any:
            frame = calling(_PLATFORMS)
            imported = frame is not None and frame.f_code.co_name == "<module>"
            del frame
            with recorder.recorded("moment", RESOLVED, caller(_PLATFORMS), detail=IMPORTED if imported else ""):
                platform = resolve()
            self._watch(platform)
            return platform

        module._resolve_platform = resolved  # type: ignore[attr-defined]
        self._undo.callback(setattr, module, "_resolve_platform", resolve)
        if module._current_platform is not None:
            recorder.mark(RESOLVED, BEFORE)
            self._watch(module._current_platform)

    def _watch(self, platform: Any) -> None:
        kind = type(platform)
        name = f"{kind.__module__}.{kind.__qualname__}"
        try:
            self._undo.enter_context(watched(platform, self.members, self.recorder))
        except TypeError as error:
            self.recorder.meets(name, f"its class cannot be watched: {error}")
        else:
            self.recorder.meets(name)


@contextlib.contextmanager
def watched(platform: Any, members: Collection[str], recorder: Recorder) -> Iterator[None]:
    """Record the calls of these methods of this object, inside; TypeError for a class that takes no attributes."""
    kind = type(platform)
    own = "__getattribute__" in vars(kind)
    look_up = type.__getattribute__(kind, "__getattribute__")
    made: dict[str, tuple[Any, Any]] = {}

    def recorded(name: str, function: Any, skip: int) -> Any:
        known, wrapper = made.get(name, (None, None))
        if known is not function:
            wrapper = _recording(recorder, name, function, skip)
            made[name] = function, wrapper
        return wrapper

    def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807
        value = look_up(self, name)
        if self is not platform or name not in members or isinstance(value, type) or not callable(value):
            return value
        if isinstance(value, types.MethodType) and (value.__self__ is self or value.__self__ is kind):
            return types.MethodType(recorded(name, value.__func__, 1), value.__self__)
        return recorded(name, value, 0)

    type.__setattr__(kind, "__getattribute__", __getattribute__)
    try:
        yield
    finally:
        if own:
            type.__setattr__(kind, "__getattribute__", look_up)
        else:
            type.__delattr__(kind, "__getattribute__")


def _recording(recorder: Recorder, name: str, function: Any, skip: int) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return recorder.call("call", name, "", function, args, kwargs, skip)

    for extra in set(dir(function)) - set(dir(call)):  # such as cache_clear
        with contextlib.suppress(Exception):
            setattr(call, extra, getattr(function, extra))
    return call


class _AfterImport:
    """Runs a patch after a module's own code, and before whoever imports it goes on. Modules see their own loader."""

    def __init__(self, patches: Mapping[str, Patch]) -> None:
        self._patches = patches

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._patches:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if not isinstance(finder, _AfterImport) else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self._patches[name])  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    def __init__(self, loader: Any, patch: Patch) -> None:
        self._loader = loader
        self._patch = patch

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        made: types.ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: types.ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._patch(module)
