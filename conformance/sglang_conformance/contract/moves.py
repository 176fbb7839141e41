"""Where something that a release no longer has at its old path has likely gone."""

from __future__ import annotations

from .index import Index, Symbol

_DEFINED = frozenset({"class", "function", "method", "classmethod", "staticmethod", "property", "module"})
_MEMBERS = frozenset({"method", "classmethod", "staticmethod", "property", "attribute"})


def likely_place(older: Index, newer: Index, dotted: str) -> str:
    """The path at which ``newer`` has what ``older`` has at ``dotted``, or empty where none can be told.

    A place counts that is new, has the same name and kind of thing (of a member: in a class of the same name), and is
    the only one, or the only one of the same signature. A name that both have elsewhere already says nothing.
    """
    symbol = older.symbols.get(dotted)
    if symbol is None or symbol.kind not in _DEFINED:
        return ""
    found = [
        path for path in newer.named(_name(dotted)) if path not in older.symbols and _same(path, newer, dotted, symbol)
    ]
    alike = [path for path in found if newer.symbols[path].signature == symbol.signature]
    if symbol.kind == "module":
        alike = [path for path in found if _shares(older, newer, dotted, path)]
        found = []
    for candidates in (found, alike):
        if len(candidates) == 1:
            return candidates[0]
    return ""


def _name(dotted: str) -> str:
    return dotted.rpartition(".")[2]


def _same(path: str, newer: Index, dotted: str, symbol: Symbol) -> bool:
    kind = newer.symbols[path].kind
    if symbol.kind not in _MEMBERS:
        return kind == symbol.kind
    return kind in _MEMBERS and _name(path.rpartition(".")[0]) == _name(dotted.rpartition(".")[0])


def _shares(older: Index, newer: Index, old: str, new: str) -> bool:
    """Whether a module has at least half of what another of its name defined."""
    had = {_name(path) for path in older.members(old) if older.symbols[path].kind in _DEFINED}
    has = {_name(path) for path in newer.members(new)}
    return bool(had) and len(had & has) * 2 >= len(had)
