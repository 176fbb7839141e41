"""How a platform is chosen and plugins are loaded: entry points, environment, and vendors' code that may fail.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import builtins
import functools
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .plain import described, read
from .vendors import Metadata, Vendors
from .witness import Witness, witness

PLATFORMS = "sglang.srt.platforms"
PLUGINS = "sglang.srt.plugins"
VARIABLES = ("SGLANG_PLATFORM", "SGLANG_PLUGINS", "SGLANG_USE_CPU_ENGINE")
CLASSES = ("Platform", "Other", "Outer.Inner", "Refusing", "Needy", "Device", "Unrelated", "instance", "activate")
"""What a vendor's module has that an ``activate`` may name: three platforms, two that do not construct, four others."""


@dataclass(frozen=True)
class Vendor:
    """A distribution with one module.

    ``importing``: the error that importing the module raises, if any. ``activate``: what that function of it returns,
    or, as ``raises NAME``, raises. ``register``: the same of the function for hooks. ``points``: group, name, value.
    """

    name: str
    module: str
    importing: str = ""
    activate: Any = None
    register: Any = None
    points: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class World:
    """What is installed, the environment, and the steps to take: a name of :data:`STEPS`, with its arguments."""

    vendors: tuple[Vendor, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    steps: tuple[tuple[str, tuple[Any, ...]], ...] = ()


def enact(data: Any) -> Any:
    """Install the world, take its steps, and tell each one's outcome and what it left of the modules' state."""
    world = read(World, data)
    for name in VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(world.environment)
    with witness() as seen:
        modules = {vendor.module: _filling(vendor, seen) for vendor in world.vendors}
        Vendors([Metadata(vendor.name, vendor.points) for vendor in world.vendors], modules).install()
        story = []
        for name, arguments in world.steps:
            told = seen.step(name, functools.partial(STEPS[name], *arguments))
            story.append({**told, "state": _state()})
        return story


def _state() -> dict[str, Any]:
    platforms, plugins = importlib.import_module(PLATFORMS), importlib.import_module(PLUGINS)
    registry = importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry
    return {
        "platform": _told(vars(platforms)["_current_platform"]),
        "loaded": vars(plugins)["_plugins_loaded"],
        "hooks": {target: [described(hook) for hook in hooks] for target, hooks in registry._hooks.items()},
        "patched": sorted(registry._patched),
        "environment": {name: os.environ.get(name) for name in VARIABLES},
    }


def _told(platform: Any) -> Any:
    if platform is None:
        return None
    names = [f"{each.__module__}.{each.__qualname__}" for each in type(platform).__mro__]
    return {"classes": names, "device": [platform.device_name, platform.device_type], "repr": repr(platform)}


def _filling(vendor: Vendor, seen: Witness) -> Callable[[ModuleType], None]:
    def fill(module: ModuleType) -> None:
        seen.tell("import", vendor.module)
        if vendor.importing:
            raise _error(vendor.importing)
        vars(module).update(_classes(vendor.module))
        vars(module).update(
            activate=_function(vendor.module, "activate", vendor.activate, seen),
            register=_function(vendor.module, "register", vendor.register, seen),
            hooks=_hooking(vendor.module, seen),
            constant=7,
        )

    return fill


def _function(module: str, name: str, does: Any, seen: Witness) -> Callable[[], Any]:
    def function() -> Any:
        seen.tell(name, module)
        if isinstance(does, str) and does.startswith("raises "):
            raise _error(does.removeprefix("raises "))
        return does

    function.__module__, function.__qualname__ = module, name
    return function


def _hooking(module: str, seen: Witness) -> Callable[[], None]:
    """A plugin that hooks a function of SGLang's own, which is not called here."""

    def hooks() -> None:
        from sglang.srt.plugins.hook_registry import HookRegistry, HookType

        def hook(*args: Any, **kwargs: Any) -> None: ...

        hook.__module__, hook.__qualname__ = module, "hook"
        seen.tell("hooks", module)
        HookRegistry.register("sglang.srt.plugins.load_plugins_by_group", hook, HookType.AFTER)
        HookRegistry.register("sglang.srt.nowhere.at_all", hook, HookType.BEFORE)

    hooks.__module__, hooks.__qualname__ = module, "hooks"
    return hooks


def _error(name: str) -> BaseException:
    kind: type[BaseException] = getattr(builtins, name)
    return kind("as the world says")


def _classes(module: str) -> dict[str, Any]:
    from sglang.srt.platforms.device_mixin import DeviceMixin, PlatformEnum
    from sglang.srt.platforms.interface import SRTPlatform

    def platform(name: str, **members: Any) -> Any:
        told = {"_enum": PlatformEnum.OOT, "device_name": module, "device_type": module, "__module__": module}
        return type(name, (SRTPlatform,), {**told, **members})

    def refuse(self: Any) -> None:
        raise RuntimeError("no such device")

    def need(self: Any, device: str) -> None: ...

    outer = type("Outer", (), {"Inner": platform("Outer.Inner"), "__module__": module})
    return {
        "Platform": platform("Platform"),
        "Other": platform("Other", device_name="other"),
        "Outer": outer,
        "Refusing": platform("Refusing", __init__=refuse),
        "Needy": platform("Needy", __init__=need),
        "Device": type("Device", (DeviceMixin,), {"__module__": module}),
        "Unrelated": type("Unrelated", (), {"__module__": module}),
        "instance": platform("Platform")(),
    }


def _current(name: str = "current_platform") -> Any:
    return _told(getattr(importlib.import_module(PLATFORMS), name))


def _twice() -> bool:
    platforms: Any = importlib.import_module(PLATFORMS)
    return platforms.current_platform is platforms.current_platform


def _forget() -> None:
    importlib.import_module(PLATFORMS)._current_platform = None  # type: ignore[attr-defined]


def _unload() -> None:
    importlib.import_module(PLUGINS)._plugins_loaded = False  # type: ignore[attr-defined]


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


STEPS: dict[str, Callable[..., Any]] = {
    "current": _current,
    "twice": _twice,
    "resolve": lambda: _told(vars(importlib.import_module(PLATFORMS))["_resolve_platform"]()),
    "load_class": lambda path: vars(importlib.import_module(PLATFORMS))["_load_platform_class"](path),
    "load_plugins": lambda: vars(importlib.import_module(PLUGINS))["load_plugins"](),
    "excluded": lambda: vars(importlib.import_module(PLUGINS))["_get_excluded_dists"](),
    "by_group": lambda group, excluded: vars(importlib.import_module(PLUGINS))["load_plugins_by_group"](
        group, None if excluded is None else set(excluded)
    ),
    "forget": _forget,
    "unload": _unload,
    "set": _set,
}
