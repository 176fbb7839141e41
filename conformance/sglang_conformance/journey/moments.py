"""The moments of a process's life that are told by functions of SGLang's core: which, and how they are noticed.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .order import holds
from .recording import Recorder
from .trace import ARGUMENTS, ATTENTION, DEVICE, GRAPHS, GROUPS, HOOKS, MEMORY, MODEL, PLUGINS, POOLS
from .whose import caller

_RUNNER = "sglang.srt.model_executor.model_runner"


@dataclass(frozen=True)
class Moment:
    """The moment that a function of the core is, in releases from ``since`` and before ``until``."""

    name: str
    module: str
    function: str
    since: str = ""
    until: str = ""

    def holds(self, release: str) -> bool:
        """Whether it is that in this release."""
        return holds(release, self.since, self.until)


MOMENTS = (
    Moment(PLUGINS, "sglang.srt.plugins", "load_plugins"),
    Moment(HOOKS, "sglang.srt.plugins.hook_registry", "HookRegistry.apply_hooks"),
    # srt/server_args.py: until 0.5.18 the arguments are settled where they are made, later when they are first needed.
    Moment(ARGUMENTS, "sglang.srt.server_args", "ServerArgs.__post_init__", until="0.5.19"),
    Moment(ARGUMENTS, "sglang.srt.server_args", "ServerArgs.resolve_once", since="0.5.19"),
    # 0.5.20, srt/model_executor/model_runner.py; 0.5.21, srt/managers/scheduler.py: before there is a model runner.
    Moment(DEVICE, _RUNNER, "ModelRunner.init_torch_distributed", until="0.5.21"),
    Moment(DEVICE, "sglang.srt.distributed.bootstrap", "init_parallel_runtime", since="0.5.21"),
    Moment(MEMORY, _RUNNER, "ModelRunner.init_torch_distributed", since="0.5.21"),
    Moment(GROUPS, "sglang.srt.distributed.parallel_state", "initialize_model_parallel"),
    Moment(MODEL, _RUNNER, "ModelRunner.load_model"),
    # 0.5.13, srt/model_executor/model_runner_kv_cache_mixin.py; 0.5.14, srt/model_executor/model_runner.py.
    Moment(POOLS, _RUNNER, "ModelRunner.init_memory_pool", until="0.5.14"),
    Moment(POOLS, _RUNNER, "ModelRunner.alloc_memory_pool", since="0.5.14"),
    Moment(ATTENTION, _RUNNER, "ModelRunner.init_attention_backend", until="0.5.14"),
    Moment(ATTENTION, _RUNNER, "ModelRunner.init_attention_backends", since="0.5.14"),
    Moment(GRAPHS, _RUNNER, "ModelRunner.init_device_graphs", until="0.5.14"),
    Moment(GRAPHS, _RUNNER, "ModelRunner.init_cuda_graphs", since="0.5.14"),
)


def patches(
    recorder: Recorder, release: str, undo: contextlib.ExitStack
) -> dict[str, Callable[[types.ModuleType], None]]:
    """By module, what makes its functions tell the recorder of their moments."""
    found: dict[str, list[Moment]] = {}
    for moment in MOMENTS:
        if moment.holds(release):
            found.setdefault(moment.module, []).append(moment)
    return {
        module: functools.partial(_patch, told=tuple(told), recorder=recorder, undo=undo)
        for module, told in found.items()
    }


def _patch(module: types.ModuleType, told: tuple[Moment, ...], recorder: Recorder, undo: contextlib.ExitStack) -> None:
    for moment in told:
        path, _, name = moment.function.rpartition(".")
        with contextlib.suppress(AttributeError):  # the host has no such part, or a plugin's class has none
            put(getattr(module, path) if path else module, name, functools.partial(_telling, recorder, moment), undo)


def _telling(recorder: Recorder, moment: Moment, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def tell(*args: Any, **kwargs: Any) -> Any:
        if _done(moment, args):
            return function(*args, **kwargs)  # it does nothing then
        with recorder.recorded("moment", moment.name, caller()):
            return function(*args, **kwargs)

    return tell


def _done(moment: Moment, args: tuple[Any, ...]) -> bool:
    """Whether a function that works once has worked before."""
    if moment.name == PLUGINS:
        return bool(sys.modules[moment.module]._plugins_loaded)
    # 0.5.19 to 0.5.23, srt/server_args.py.
    return moment.name == ARGUMENTS and bool(args and getattr(args[0], "_resolution_finished", False))


def put(owner: Any, name: str, around: Callable[[Any], Any], undo: contextlib.ExitStack) -> None:
    """Put a function around one of a module or a class, also where modules have it by ``from … import``.

    A class method stays one. Raises AttributeError where there is none.
    """
    found = inspect.getattr_static(owner, name)
    own = name in vars(owner)
    wrapped = classmethod(around(found.__func__)) if isinstance(found, classmethod) else around(found)
    _set(owner, name, wrapped)
    undo.callback(_set if own else lambda owner, name, _: delattr(owner, name), owner, name, found)
    if isinstance(owner, types.ModuleType):
        for module in [each for each in list(sys.modules.values()) if isinstance(each, types.ModuleType)]:
            if module is not owner and vars(module).get(name) is found:
                _set(module, name, wrapped)
                undo.callback(_set, module, name, found)


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, type):
        type.__setattr__(owner, name, value)
    else:
        setattr(owner, name, value)
