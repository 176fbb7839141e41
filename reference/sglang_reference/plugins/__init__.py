"""``sglang.srt.plugins``: find plugins by their entry points, and run those that register hooks.

Rules: SGLang 0.5.11 and 0.5.23, srt/plugins/__init__.py. A plugin that cannot be imported or that raises is logged, and
the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .._contract import TABLE
from ..environ import envs
from .hook_registry import HookRegistry, HookSource, _current_plugin_source

logger = logging.getLogger(__name__)

PLATFORM_PLUGINS_GROUP: str = TABLE["groups"]["platforms"]
"""Entry points whose callable returns a platform's class path, or None."""

GENERAL_PLUGINS_GROUP: str = TABLE["groups"]["plugins"]
"""Entry points whose callable is run for its side effects."""

_plugins_loaded = False


def load_plugins_by_group(
    group: str, excluded_dists: set[str] | None = None
) -> dict[str, tuple[Callable[[], Any], str | None]]:
    """Import the plugins of an entry-point group: name to callable and distribution.

    Plugins that ``SGLANG_PLUGINS`` does not list, where it is set, and those of the distributions in ``excluded_dists``
    are not even imported. Of two plugins with one name, the one found last is kept. What is logged has SGLang's levels,
    record by record, since people count on them.
    """
    allowed = _allowed_names()
    points = entry_points(group=group)
    if not points:
        logger.debug("There are no plugins in %s", group)
        return {}
    logger.info("Plugins in %s:", group)
    for point in points:
        logger.info("  %s -> %s", point.name, point.value)
    plugins: dict[str, tuple[Callable[[], Any], str | None]] = {}
    for point in points:
        distribution = _distribution(point)
        reason = _reason_to_skip(point.name, distribution, allowed, excluded_dists or ())
        if reason:
            logger.info("Plugin %s skipped: %s", point.name, reason)
            continue
        try:
            plugins[point.name] = (point.load(), distribution)
        except Exception:
            logger.exception("Plugin %s of %s cannot be loaded", point.name, group)
        else:
            logger.info("Plugin %s of %s loaded", point.name, group)
    return plugins


def _allowed_names() -> set[str] | None:
    """The plugins that ``SGLANG_PLUGINS`` lists; None where it is unset or empty, and all are allowed."""
    text = envs.SGLANG_PLUGINS.get()
    return {name.strip() for name in text.split(",") if name.strip()} if text else None


def _distribution(point: EntryPoint) -> str | None:
    return point.dist.name if point.dist else None


def _reason_to_skip(
    name: str, distribution: str | None, allowed: set[str] | None, excluded: Collection[str]
) -> str | None:
    if allowed is not None and name not in allowed:
        return "SGLANG_PLUGINS does not list it"
    if distribution in excluded:
        return f"its distribution {distribution} provides a platform that SGLANG_PLATFORM does not select"
    return None


def _get_excluded_dists() -> set[str]:
    """The distributions with a platform that is not the one ``SGLANG_PLATFORM`` selects; none while it is unset."""
    selected = envs.SGLANG_PLATFORM.get()
    if not selected:
        return set()
    points = entry_points(group=PLATFORM_PLUGINS_GROUP)
    return {point.dist.name for point in points if point.dist and point.name != selected}


def load_plugins() -> None:
    """Run the general plugins and apply the hooks that they registered; once a process, then it does nothing."""
    global _plugins_loaded
    if _plugins_loaded:
        return
    _plugins_loaded = True
    plugins = load_plugins_by_group(GENERAL_PLUGINS_GROUP, excluded_dists=_get_excluded_dists())
    for name, (run, distribution) in plugins.items():
        token = _current_plugin_source.set(HookSource(name, distribution))
        try:
            run()
        except Exception:
            logger.exception("Plugin %s failed", name)
        else:
            logger.info("Plugin %s executed", name)
        finally:
            _current_plugin_source.reset(token)
    HookRegistry.apply_hooks()
