"""Worlds in which the vendor's hooks must live: beside other plugins, under other selections.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...hosts.enter import resolve
from ...probes.world import World
from ...subject import Subject
from .. import expect
from .distributions import Distribution, Selection, expected_plugins, install

NEIGHBOURS = ["original", "first, on import", "first", "last"]
"""What the function that the neighbours hook returns: each hook adds its word."""
SOURCES = ["nobody", "first_hooks of first-neighbour", "last_hooks of last-neighbour"]
"""Who registered the neighbours' hooks: SGLang knows no source of what runs on import."""

_FIRST = Distribution("first-neighbour", hooks=("first_hooks",))
_LAST = Distribution("last-neighbour", hooks=("last_hooks",))
_OTHER = Distribution("other-vendor", ("other_platform",))
_TARGET = "conformance_neighbours_target.words"
_HOOKS = """
from sglang.srt.plugins.hook_registry import HookRegistry, HookType, plugin_hook

def register():
    HookRegistry.register("{target}", lambda words, *a, **k: [*words, "{word}"], HookType.AFTER)
"""
_ON_IMPORT = """
@plugin_hook("{target}", type=HookType.AFTER)
def on_import(words, *args, **kwargs):
    return [*words, "{word}, on import"]
"""


def load_and_resolve() -> None:
    """Load the plugins and resolve the platform, as SGLang's processes do."""
    expect.attempt("load_plugins(), current_platform", resolve)


@contextlib.contextmanager
def neighbours(groups: Mapping[str, str]) -> Iterator[tuple[Callable[[], Any], Callable[[], list[str]]]]:
    """Two other plugins, found before and after every other one, that hook one function.

    Yields how to call that function, and how to ask who registered its hooks.
    """
    from sglang.srt.plugins.hook_registry import HookRegistry

    target = types.ModuleType(_TARGET.rpartition(".")[0])
    target.words = lambda: ["original"]  # type: ignore[attr-defined]
    sys.modules[target.__name__] = target
    with tempfile.TemporaryDirectory() as folder:
        for distribution, word in ((_FIRST, "first"), (_LAST, "last")):
            [home] = install(Path(folder), [distribution], groups, f"conformance_{word}_neighbour:register")
            text = _HOOKS + (_ON_IMPORT if word == "first" else "")
            file = Path(home) / f"conformance_{word}_neighbour.py"
            file.write_text(text.format(target=_TARGET, word=word), encoding="utf-8")
            sys.path.insert(0 if word == "first" else len(sys.path), home)
        yield (
            lambda: target.words(),
            lambda: [
                f"{s.plugin_name} of {s.dist_name}" if s else "nobody" for _, _, s in HookRegistry._hooks[_TARGET]
            ],
        )


def choose(present: Sequence[Distribution], chosen: Selection, groups: Mapping[str, str]) -> None:
    """Let SGLang find hook plugins among these distributions alone, and compare with the rules."""
    module = types.ModuleType("conformance_chosen")
    module.run = lambda: None  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    path = list(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        sys.path[:] = install(Path(folder), present, groups, "conformance_chosen:run")
        try:
            World({"SGLANG_PLATFORM": chosen.platform, "SGLANG_PLUGINS": chosen.plugins}).enter()
            seen = loaded_by_sglang()
        finally:
            sys.path[:] = path
    told = "; ".join(f"{d.name}: platforms {list(d.platforms)}, hooks {list(d.hooks)}" for d in present)
    variables = f"SGLANG_PLATFORM={chosen.platform!r} SGLANG_PLUGINS={chosen.plugins!r}"
    expect.equal(seen, dict(expected_plugins(present, chosen)), call=f"{variables}, with {told}: load_plugins()")


def loaded_by_sglang() -> dict[str, str]:
    """The hook plugins that SGLang loads in this world, by name: the distribution of each."""
    from sglang.srt import plugins

    excluded = plugins._get_excluded_dists()
    found = plugins.load_plugins_by_group(plugins.GENERAL_PLUGINS_GROUP, excluded_dists=excluded)
    return {name: str(distribution) for name, (_, distribution) in found.items()}


@contextlib.contextmanager
def another_platform(groups: Mapping[str, str]) -> Iterator[str]:
    """Meanwhile another vendor's platform is installed, and selected; yields its name."""
    with tempfile.TemporaryDirectory() as folder:
        sys.path += install(Path(folder), [_OTHER], groups, "conformance_other:activate")
        World({"SGLANG_PLATFORM": _OTHER.platforms[0]}).enter()
        yield _OTHER.platforms[0]


def without_platform(subject: Subject) -> None:
    """Make this process one in which the hooks load and the vendor's platform does not (its name is not listed)."""
    hooks = ",".join(p.name for p in subject.hook_points if p.name != subject.name) or "none"
    World({"SGLANG_PLATFORM": None, "SGLANG_PLUGINS": hooks, "SGLANG_USE_CPU_ENGINE": "1"}).enter()
