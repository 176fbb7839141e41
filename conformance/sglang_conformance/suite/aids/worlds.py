"""Random worlds of installed plugins and environment variables, and an independent model of what SGLang takes there.

The model is written from the rules (SGLang 0.5.23, srt/platforms/__init__.py, srt/plugins/__init__.py), not from any
implementation of them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hypothesis import strategies as st

Behaviour = Literal["active", "absent", "raises", "no import", "no class", "wrong base"]

SYNTHETIC = ("alpha", "beta", "gamma")
_BODIES: dict[str, str] = {
    "active": "return '{module}.Platform'",
    "absent": "return None",
    "raises": "raise ValueError('driver trouble')",
    "no import": "",
    "no class": "return '{module}.Missing'",
    "wrong base": "return 'decimal.Decimal'",
}
_MODULE = """\
from sglang.srt.platforms.interface import SRTPlatform


class Platform(SRTPlatform):
    pass


def activate():
    {body}
"""


@dataclass(frozen=True)
class Installed:
    """A platform plugin of a world; a distribution of its own provides it."""

    name: str
    behaviour: Behaviour
    path: str

    @property
    def imports(self) -> bool:
        """Whether its module imports."""
        return self.behaviour != "no import"


@dataclass(frozen=True)
class World:
    """Plugins in the order of the import path, and the two variables that select among them (None: unset)."""

    plugins: tuple[Installed, ...]
    platform: str | None
    allowed: str | None


@dataclass(frozen=True)
class Taken:
    """What SGLang takes in a world: a class, by its path, or an error, by its type; ``built-in`` if no plugin."""

    kind: Literal["class", "error", "built-in"]
    name: str = ""

    def __str__(self) -> str:
        return {"class": f"the class {self.name}", "error": self.name, "built-in": "a built-in platform"}[self.kind]


def worlds(mine: Installed | None) -> st.SearchStrategy[World]:
    """Worlds in which up to three synthetic plugins are installed, and the one under test, first or last or not."""
    others = st.lists(
        st.builds(
            lambda name, behaviour: Installed(name, behaviour, f"conformance_{name}.Platform"),
            st.sampled_from(SYNTHETIC),
            st.sampled_from(tuple(_BODIES)),
        ),
        max_size=3,
        unique_by=lambda plugin: plugin.name,
    )
    names = (*SYNTHETIC, "nobody", *((mine.name,) if mine else ()))
    lists = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True).map(" , ".join)
    placed = others if mine is None else others.flatmap(lambda rest: st.sampled_from(([mine, *rest], [*rest, mine])))
    return st.builds(
        lambda plugins, platform, allowed: World(tuple(plugins), platform, allowed),
        placed,
        st.sampled_from((None, "", *names)),
        st.one_of(st.none(), st.just(""), lists),
    )


def taken(world: World) -> Taken:
    """What SGLang takes, by the rules."""
    by_name = {plugin.name: plugin for plugin in world.plugins}
    if world.platform:
        plugin = by_name.get(world.platform)
        if plugin is None or plugin.behaviour == "absent":
            return Taken("error", "RuntimeError")
        if plugin.behaviour == "raises":
            return Taken("error", "ValueError")
        if plugin.behaviour == "no import":
            return Taken("error", "ModuleNotFoundError")
        return _loaded(plugin)
    allowed = {name.strip() for name in world.allowed.split(",")} if world.allowed else None
    active = [
        plugin
        for plugin in by_name.values()
        if (allowed is None or plugin.name in allowed) and plugin.behaviour in ("active", "no class", "wrong base")
    ]
    if not active:
        return Taken("built-in")
    return _loaded(active[0]) if len(active) == 1 else Taken("error", "RuntimeError")


def _loaded(plugin: Installed) -> Taken:
    if plugin.behaviour == "no class":
        return Taken("error", "AttributeError")
    if plugin.behaviour == "wrong base":
        return Taken("error", "TypeError")
    return Taken("class", plugin.path)


def install(plugins: Sequence[Installed], folder: Path, group: str, *, own: str | None = None) -> None:
    """Install the synthetic plugins in the current process, each in a folder of its own; ``own`` is installed already.

    Those before it in the order go before it on the import path, the others behind it.
    """
    names = [plugin.name for plugin in plugins]
    border = names.index(own) if own in names else 0
    before = []
    for position, plugin in enumerate(plugins):
        if plugin.name == own:
            continue
        home = _write(plugin, folder / plugin.name, group)
        if position < border:
            before.append(str(home))
        else:
            sys.path.append(str(home))
    sys.path[:0] = before


def select(world: World) -> None:
    """Set the variables of the world in the current process."""
    for name, value in (("SGLANG_PLATFORM", world.platform), ("SGLANG_PLUGINS", world.allowed)):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.environ["SGLANG_USE_CPU_ENGINE"] = "1"  # what is built in must not depend on this machine's devices


def _write(plugin: Installed, home: Path, group: str) -> Path:
    module = f"conformance_{plugin.name}"
    metadata = home / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{plugin.name} = {module}:activate\n")
    body = _BODIES[plugin.behaviour].format(module=module)
    source = _MODULE.format(body=body) if plugin.imports else "import conformance_absent_driver\n"
    (home / f"{module}.py").write_text(source)
    return home
