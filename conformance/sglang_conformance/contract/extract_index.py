"""Read the index of a released SGLang package, from its source alone: nothing of it is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from .computed_names import Exported
from .errors import ContractError
from .extract import release_of
from .index import Index, Symbol, inside
from .index_module import ModuleNames, read
from .source import Source, dotted_name, opened

__all__ = ["ContractError", "extract", "put_together"]

_INIT = "__init__.py"


def extract(path: Path) -> Index:
    """The index of the SGLang package at ``path``: a wheel, a folder that holds ``sglang/``, or that folder.

    Every module of the package is in it, with all names that it binds. A file that is not Python is a module of which
    nothing is known. Raises ContractError where there is no SGLang, or where it is damaged.
    """
    with opened(Path(path)) as source:
        return Index(release_of(source), put_together(_modules(source)))


def _modules(source: Source) -> dict[str, ModuleNames]:
    found: dict[str, ModuleNames] = {}
    for name in source.names():
        dotted = dotted_name(name)
        try:
            names = read(source.read(name), dotted, package=PurePosixPath(name).name == _INIT)
        except ContractError:
            names = ModuleNames({}, open=True)
        # A folder and a file of one name: Python takes the folder.
        if dotted not in found or name.endswith(_INIT):
            found[dotted] = names
    return found


def put_together(modules: Mapping[str, ModuleNames]) -> dict[str, Symbol]:
    """The symbols of a package by their full path, sorted: star imports followed, folders without code added."""
    stars = {dotted: _starred(dotted, modules) for dotted in modules}
    made: dict[str, Symbol] = {}
    for dotted, names in modules.items():
        taken, is_open = stars[dotted]
        made[dotted] = Symbol("module", open=is_open)
        made.update({f"{dotted}.{path}": symbol for path, symbol in {**taken, **names.symbols}.items()})
    # Whatever else a package binds to a submodule's name stands beside it: both can be meant.
    for dotted in {*modules, *(parent for module in modules for parent in _parents(module))}:
        parent, _, name = dotted.rpartition(".")
        bound = modules[parent].symbols.get(name) if parent in modules else None
        elsewhere = bound is not None and bound.kind == "name" and bound.origin not in ("", dotted)
        is_open = made[dotted].open if dotted in modules else False
        made[dotted] = Symbol("module", origin=bound.origin if bound is not None and elsewhere else "", open=is_open)
    return dict(sorted(made.items()))


def _parents(dotted: str) -> list[str]:
    parts = dotted.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _starred(
    dotted: str, modules: Mapping[str, ModuleNames], trail: tuple[str, ...] = ()
) -> tuple[dict[str, Symbol], bool]:
    """What star imports bring to a module, and whether they, or it, may bring names that cannot be told."""
    own = modules[dotted]
    brought: dict[str, Symbol] = {}
    is_open = own.open
    for star in own.stars:
        source = modules.get(star)
        if source is None:
            is_open = is_open or not inside(star)
            continue
        if star in trail:
            continue
        more, more_open = _starred(star, modules, (*trail, dotted))
        is_open = is_open or more_open
        for name in _public({**more, **source.symbols}, source.exported):
            brought[name] = Symbol("name", origin=f"{star}.{name}")
    return brought, is_open


def _public(symbols: Mapping[str, Symbol], exported: Exported) -> tuple[str, ...]:
    if exported.only is not None:
        return exported.only
    public = (name for name in symbols if "." not in name and not name.startswith("_"))
    return tuple(name for name in public if name not in exported.withheld)
