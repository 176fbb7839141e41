"""``sglang.srt.platforms``: find the platform that this process runs on, once, when first asked.

``current_platform`` is resolved at its first access (PEP 562) and kept in ``_current_platform``. Rules: SGLang 0.5.11
and 0.5.23, srt/platforms/__init__.py.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from .._contract import TABLE
from .._detection import CLASSES, DETECTORS
from ..environ import envs
from ..plugins import PLATFORM_PLUGINS_GROUP, load_plugins_by_group
from .interface import SRTPlatform

logger = logging.getLogger(__name__)

current_platform: SRTPlatform
_current_platform: SRTPlatform | None = None


def _asks(kind: str) -> Callable[[], bool]:
    return lambda: DETECTORS[kind](torch)


if TABLE["detection"]:
    import torch

    # The names of SGLang's own module: its detectors, and the classes that they choose.
    for _kind in TABLE["detection"]:
        globals()[f"_is_{_kind}_available"] = _asks(_kind)
        globals()[CLASSES[_kind]] = getattr(importlib.import_module(f".{_kind}", __name__), CLASSES[_kind])
    del _kind


def __getattr__(name: str) -> Any:
    global _current_platform
    if name != "current_platform":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _current_platform is None:
        _current_platform = _resolve_platform()
    return _current_platform


def _resolve_platform() -> SRTPlatform:
    """The platform of this process, made anew.

    With ``SGLANG_PLATFORM``, the plugin of that entry-point name and no other. Else the one plugin that activates; with
    none, the first built-in platform whose hardware is there, or the bare SRTPlatform. Raises RuntimeError for an
    unknown name, for a named plugin that declines, and for several plugins that activate; TypeError for a class that is
    no SRTPlatform; what the named plugin raises; what :func:`pkgutil.resolve_name` raises for a wrong class path.
    """
    selected = envs.SGLANG_PLATFORM.get()
    if selected:
        return _load_platform_class(_activate_selected(selected))()
    activated = _activate_all()
    if len(activated) > 1:
        names = ", ".join(repr(name) for name in activated)
        raise RuntimeError(f"several platform plugins activated ({names}); choose one with SGLANG_PLATFORM")
    if activated:
        return _load_platform_class(next(iter(activated.values())))()
    return _detect_built_in()


def _activate_selected(name: str) -> str:
    # Of two distributions with one entry-point name, the one found last wins.
    found = {point.name: point for point in entry_points(group=PLATFORM_PLUGINS_GROUP)}
    if name not in found:
        available = ", ".join(repr(known) for known in found) or "none"
        raise RuntimeError(
            f"SGLANG_PLATFORM={name!r} names no installed platform plugin (there are: {available}); "
            f"install the plugin, with an entry point of that name in {PLATFORM_PLUGINS_GROUP}"
        )
    try:
        path: str | None = found[name].load()()
    except Exception:
        logger.exception("Platform plugin %s, chosen by SGLANG_PLATFORM, cannot be activated", name)
        raise
    if path is None:
        raise RuntimeError(
            f"platform plugin {name!r} was chosen by SGLANG_PLATFORM, but its activate() returned None: "
            "its hardware seems not to be available here"
        )
    logger.info("Platform plugin %s activated: %s", name, path)
    return path


def _activate_all() -> dict[str, str]:
    """The class path that each plugin's activate returns, without those that decline; one that raises is logged."""
    activated = {}
    for name, (activate, _distribution) in load_plugins_by_group(PLATFORM_PLUGINS_GROUP).items():
        try:
            path = activate()
        except Exception:
            logger.exception("Platform plugin %s cannot be activated", name)
            continue
        if path is not None:
            activated[name] = path
            logger.info("Platform plugin %s activated: %s", name, path)
    return activated


def _detect_built_in() -> SRTPlatform:
    # Looked up by name, so that who replaces a detector or a class here is heard.
    kind = next((kind for kind in TABLE["detection"] if globals()[f"_is_{kind}_available"]()), None)
    if kind is None:
        logger.debug("No platform plugin and no accelerator found: the bare SRTPlatform")
        return SRTPlatform()
    logger.debug("No platform plugin activated: the built-in platform %s", kind)
    platform: SRTPlatform = globals()[CLASSES[kind]]()
    return platform


def _load_platform_class(qualname: str) -> type[SRTPlatform]:
    """The SRTPlatform subclass at a dotted path; raises TypeError where something else lies there."""
    found = pkgutil.resolve_name(qualname)
    if isinstance(found, type) and issubclass(found, SRTPlatform):
        return found
    raise TypeError(f"{qualname} is no SRTPlatform subclass but {found!r}, of {type(found)}")
