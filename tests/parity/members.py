"""What a platform is and answers: the base classes' members on subclasses of any make, called rightly and wrongly.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .plain import described, read
from .witness import Witness, witness

PARENTS = ("SRTPlatform", "DeviceMixin", "mixed", "mixed before", "CpuSRTPlatform", "grandchild")
_INTERFACE = "sglang.srt.platforms.interface"
_MIXIN = "sglang.srt.platforms.device_mixin"


@dataclass(frozen=True)
class World:
    """A subclass and calls of its members.

    ``parents``: one of :data:`PARENTS`. ``enum``: the name of a PlatformEnum member; empty: left alone. ``overrides``:
    a member and what it gives, or ``raises NAME``, or ``super``. ``capabilities``: the fields given; None: left alone.
    ``calls``: a member, arguments, keywords; on the instance, or with ``class`` before the member on the class.
    """

    parents: str = "SRTPlatform"
    enum: str = ""
    device: tuple[str, str] | None = None
    overrides: tuple[tuple[str, Any], ...] = ()
    capabilities: dict[str, Any] | None = None
    calls: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = ()


def enact(data: Any) -> Any:
    """Define the class, construct it, and make the calls."""
    world = read(World, data)
    with witness() as seen:
        made: dict[str, Any] = {}
        story = [
            seen.step("define", lambda: made.update(cls=_defined(world))),
            seen.step("construct", lambda: made.update(platform=made["cls"]())),
        ]
        if "platform" in made:
            story.append(seen.step("is", lambda: _identity(made["platform"])))
            story += [_called(made, seen, *call) for call in world.calls]
        return story


def _called(made: dict[str, Any], seen: Witness, name: str, arguments: Any, keywords: Any) -> Any:
    subject = made["cls"] if name.startswith("class ") else made["platform"]
    member = name.removeprefix("class ")
    return seen.step(name, lambda: _call(subject, member, arguments, keywords))


def _call(subject: Any, name: str, arguments: Any, keywords: Any) -> Any:
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](subject, *arguments, **keywords)
    value = getattr(subject, name)
    if not callable(value):
        return value
    result = value(*arguments, **keywords)
    if hasattr(result, "__enter__"):
        with result as entered:
            return [type(result).__name__, described(entered)]
    return result


def _identity(platform: Any) -> Any:
    queries = sorted(name for name in dir(platform) if name.startswith("is_") and name != "is_pin_memory_available")
    return [repr(platform), {name: getattr(platform, name)() for name in queries}]


def _defined(world: World) -> type:
    interface, mixin = importlib.import_module(_INTERFACE), importlib.import_module(_MIXIN)
    members: dict[str, Any] = {"__module__": "vendor"}
    if world.enum:
        members["_enum"] = mixin.PlatformEnum[world.enum]
    if world.device is not None:
        members.update(device_name=world.device[0], device_type=world.device[1])
    if world.capabilities is not None:
        members["capabilities"] = vars(interface)["PlatformCapabilities"](**world.capabilities)
    overrides = {name: _override(name, does) for name, does in world.overrides}
    device = type("Device", (mixin.DeviceMixin,), {"__module__": "vendor", **overrides})
    base = interface.SRTPlatform
    if world.parents == "mixed":
        return type("Mixed", (device, base), members)
    if world.parents == "mixed before":
        return type("MixedBefore", (base, device), members)
    if world.parents == "grandchild":
        return type("Grandchild", (type("Child", (base,), {"__module__": "vendor", **overrides}),), members)
    if world.parents == "CpuSRTPlatform":
        base = importlib.import_module("sglang.srt.platforms.cpu").CpuSRTPlatform
    return type("Own", (mixin.DeviceMixin if world.parents == "DeviceMixin" else base,), {**members, **overrides})


def _override(name: str, does: Any) -> Any:
    if does == "attribute":
        return 5

    def function(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(does, str) and does.startswith("raises "):
            raise getattr(builtins, does.removeprefix("raises "))("as the world says")
        if does == "super":
            kind = next(each for each in type(self).__mro__ if vars(each).get(name) is function)
            return getattr(super(kind, self), name)(*args, **kwargs)
        return does

    function.__name__ = name
    return function


def _capabilities(subject: Any, change: str = "") -> Any:
    """What the capabilities are, or what comes of changing one of them."""
    declared = subject.capabilities
    if change:
        setattr(declared, change, True)
    fields = [name for name in sorted(dir(declared)) if not name.startswith("_")]
    values = {name: getattr(declared, name) for name in fields}
    twin = type(declared)(**values)
    return [type(declared).__qualname__, values, declared == twin, hash(declared) == hash(twin)]


def _capability(subject: Any, major: int, minor: int) -> Any:
    kind: Any = vars(importlib.import_module(_MIXIN))["DeviceCapability"]
    made = kind(major, minor)
    told = [tuple(made), made.as_version_str(), made >= kind(8, 9), made == (major, minor)]
    return [*told, made.to_int()]


def _seeded(subject: Any, seed: Any) -> Any:
    import random

    import numpy as np
    import torch

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    subject.seed_everything(seed)
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def _inference(subject: Any) -> Any:
    import torch

    with subject.inference_mode():
        return torch.is_inference_mode_enabled()


def _required(subject: Any, hook: str, subsystem: str) -> Any:
    function = vars(importlib.import_module(_INTERFACE))["require_out_of_tree_impl"]
    return function(subject, hook=hook, subsystem=subsystem)


def _rejected(subject: Any, subsystem: str) -> Any:
    return vars(importlib.import_module(_INTERFACE))["reject_out_of_tree_path"](subject, subsystem=subsystem)


def _raising_inside(subject: Any, device_id: Any) -> Any:
    with contextlib.suppress(KeyError), subject.reindex_device_id(device_id) as given:
        raise KeyError(given)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "(capabilities)": _capabilities,
    "(capability)": _capability,
    "(seeded)": _seeded,
    "(inference)": _inference,
    "(require)": _required,
    "(reject)": _rejected,
    "(reindex)": _raising_inside,
}
"""Calls that take more than one step, by a name that no member has."""
