"""What groups and SGLang's helpers ask of the platform: backend strings, devices, memory, compilers.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import builtins
import importlib
import os
from dataclasses import dataclass
from typing import Any

from .plain import read
from .witness import witness

_STATE = "sglang.srt.distributed.parallel_state"
_COMMON = "sglang.srt.utils.common"


@dataclass(frozen=True)
class World:
    """The platform in use, and calls of functions that ask it.

    ``answers``: a member and what it gives, or ``raises NAME``. ``calls``: a module (``state``, ``common`` or
    ``platform``), one of its functions, and arguments; a text that begins with ``device:`` stands for that device.
    """

    enum: str = "OOT"
    device_name: str = "mlu"
    device_type: str = "mlu"
    answers: tuple[tuple[str, Any], ...] = ()
    capabilities: tuple[str, ...] = ()
    environment: dict[str, str] | None = None
    calls: tuple[tuple[str, str, tuple[Any, ...]], ...] = ()


def enact(data: Any) -> Any:
    """Put the platform in its place, where SGLang's modules keep it, and make the calls."""
    world = read(World, data)
    os.environ.update(world.environment or {})
    common, platforms = importlib.import_module(_COMMON), importlib.import_module("sglang.srt.platforms")
    with witness() as seen:
        made: dict[str, Any] = {}
        story = [seen.step("define", lambda: made.update(platform=_platform(world)))]
        if "platform" not in made:
            return story
        platforms._current_platform = made["platform"]  # type: ignore[attr-defined]
        if "current_platform" in vars(common):  # kept since it was imported
            common.current_platform = made["platform"]  # type: ignore[attr-defined]
        homes = {"state": importlib.import_module(_STATE), "common": common, "platform": made["platform"]}
        for home, name, arguments in world.calls:
            given = [_device(each) for each in arguments]
            function = lambda home=home, name=name, given=given: getattr(homes[home], name)(*given)  # noqa: E731
            story.append(seen.step(f"{home}.{name}", function))
        return story


def _device(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("device:"):
        import torch

        return torch.device(value.removeprefix("device:"))
    return value


def _platform(world: World) -> Any:
    from sglang.srt.platforms import interface
    from sglang.srt.platforms.device_mixin import PlatformEnum

    members: dict[str, Any] = {
        "_enum": PlatformEnum[world.enum],
        "device_name": world.device_name,
        "device_type": world.device_type,
        "__module__": "vendor",
        **{name: _answering(answer) for name, answer in world.answers},
    }
    if hasattr(interface, "PlatformCapabilities"):
        members["capabilities"] = interface.PlatformCapabilities(**dict.fromkeys(world.capabilities, True))
    return type("Platform", (interface.SRTPlatform,), members)()


def _answering(answer: Any) -> Any:
    def function(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(answer, str) and answer.startswith("raises "):
            raise getattr(builtins, answer.removeprefix("raises "))("as the world says")
        return _device(answer)

    return function
