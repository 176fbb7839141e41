"""Distributions made for a check: their metadata, in folders to put on the import path, and what SGLang must load.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st


@dataclass(frozen=True)
class Distribution:
    """A distribution: its name, the platforms and the hook plugins that it provides."""

    name: str
    platforms: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """The two variables that choose plugins; None: not set."""

    platform: str | None
    plugins: str | None


_PLATFORMS = ("ares", "boreas")
_HOOKS = ("ares", "ares_hooks", "chronos")


def distributions() -> st.SearchStrategy[list[Distribution]]:
    """Up to three distributions; names of hook plugins may clash."""
    names = st.lists(st.sampled_from(("one-dist", "two-dist", "three-dist")), unique=True, min_size=1, max_size=3)
    contents = st.tuples(_some(_PLATFORMS), _some(_HOOKS))
    every = st.tuples(names, contents, contents, contents)
    return every.map(
        lambda drawn: [Distribution(name, *parts) for name, parts in zip(drawn[0], drawn[1:], strict=False)]
    )


def selections() -> st.SearchStrategy[Selection]:
    """The variables unset, empty, naming what there is or what there is not, with spaces and trailing commas."""
    platform = st.sampled_from((None, "", *_PLATFORMS, "nobody"))
    plugins = st.sampled_from((None, "", ",", "ares", " ares_hooks , chronos", "boreas,", "chronos,,ares", "Ares"))
    return st.builds(Selection, platform, plugins)


def _some(names: Sequence[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), unique=True, max_size=2).map(tuple)


def expected_plugins(present: Sequence[Distribution], chosen: Selection) -> Mapping[str, str]:
    """Which hook plugins SGLang must load: the name, and the distribution whose plugin of that name it is.

    The rules (SGLang 0.5.11 and 0.5.23, srt/plugins/__init__.py): ``SGLANG_PLUGINS`` is an allowlist unless empty;
    with ``SGLANG_PLATFORM`` a distribution that provides any other platform is left out; the last of one name wins.
    """
    listed = {name.strip() for name in chosen.plugins.split(",")} if chosen.plugins else None
    return {
        hook: distribution.name
        for distribution in present
        if not (chosen.platform and set(distribution.platforms) - {chosen.platform})
        for hook in distribution.hooks
        if listed is None or hook in listed
    }


def install(folder: Path, present: Sequence[Distribution], groups: Mapping[str, str], entry: str) -> list[str]:
    """Write the distributions' metadata, each into a folder of its own; the folders, in order, for the import path.

    Every entry point names the object ``entry``, as ``module:function``.
    """
    paths = []
    for distribution in present:
        home = folder / distribution.name
        metadata = home / f"{distribution.name.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir(parents=True)
        named = {groups["platforms"]: distribution.platforms, groups["plugins"]: distribution.hooks}
        lines = [line for group, names in named.items() for line in (f"[{group}]", *(f"{n} = {entry}" for n in names))]
        (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution.name}\nVersion: 1.0\n", encoding="utf-8"
        )
        paths.append(str(home))
    return paths
