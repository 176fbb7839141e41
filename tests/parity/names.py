"""What a module of SGLang has, or a class: its names, their kinds, and the signatures of what can be called.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import enum
import importlib
import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .plain import read

WHOLE = (
    "sglang.srt.platforms",
    "sglang.srt.platforms.interface:SRTPlatform",
    "sglang.srt.platforms.device_mixin",
    "sglang.srt.platforms.device_mixin:DeviceMixin",
    "sglang.srt.platforms.device_mixin:DeviceCapability",
    "sglang.srt.platforms.device_mixin:PlatformEnum",
    "sglang.srt.plugins",
    "sglang.srt.plugins.hook_registry",
    "sglang.srt.plugins.hook_registry:HookRegistry",
    "sglang.srt.plugins.hook_registry:HookType",
    "sglang.srt.plugins.hook_registry:HookSource",
)
"""What the reference has whole."""
PARTIAL = (
    "sglang.srt.distributed.parallel_state",
    "sglang.srt.distributed.parallel_state:GroupCoordinator",
    "sglang.srt.distributed.communication_op",
    "sglang.srt.utils.common",
)
"""What the reference has in part: a name that only SGLang has is left out there."""

# Objects of torch's in some releases, which do not tell where they were defined.
_OPERATORS = (
    "inplace_all_reduce",
    "outplace_all_reduce",
    "flashinfer_allreduce",
    "reg_all_gather_into_tensor",
    "reg_reduce_scatter_tensor",
    "reg_all_to_all_single",
)


@dataclass(frozen=True)
class World:
    """A module, or ``module:class``."""

    home: str = "sglang.srt.plugins"


def enact(data: Any) -> Any:
    """Tell of all public names."""
    world = read(World, data)
    module, _, name = world.home.partition(":")
    home: Any = importlib.import_module(module)
    home = getattr(home, name) if name else home
    names = [each for each in sorted(set(dir(home))) if not each.startswith("_") and _is_own(home, each)]
    return {world.home: {each: _told(home, each) for each in names}}


def _is_own(home: Any, name: str) -> bool:
    """Whether a module defines it itself, or in a private module beside it, and has not imported it from elsewhere."""
    if not isinstance(home, ModuleType):
        return True
    origin = str(getattr(getattr(home, name), "__module__", ""))
    parted = home.__name__.endswith(".parallel_state") and origin.startswith("sglang.srt.distributed._")
    return (origin == home.__name__ or parted) and name not in _OPERATORS


def _told(home: Any, name: str) -> Any:
    value = inspect.getattr_static(home, name, None)
    if value is None:
        return "nothing" if not hasattr(home, name) else "None"
    if isinstance(value, (classmethod, staticmethod)):
        return [type(value).__name__, _signature(value.__func__)]
    if isinstance(value, enum.Enum):
        return [value.name, value.value]
    if isinstance(value, type):
        return ["class", [each.__name__ for each in value.__mro__ if each.__module__.startswith("sglang")][:1]]
    if callable(value):
        return ["function", _signature(value)]
    return [type(value).__name__]


def _signature(function: Any) -> Any:
    """Names, kinds and defaults; not annotations, which each writes in its own way."""
    parameters = inspect.signature(function).parameters.values()
    return [[each.name, str(each.kind), repr(each.default)] for each in parameters]
