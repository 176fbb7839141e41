"""What can be named in one SGLang release: its modules, and the classes, functions, members and names in them.

Plugins reach into SGLang by dotted path: they import from it, and their hooks name their targets by it. An index tells
whether such a path is there, and what it leads to, without SGLang: :func:`..tables.load_index` gives that of a release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

SymbolKind = Literal[
    "module", "class", "function", "method", "classmethod", "staticmethod", "property", "attribute", "name"
]

PACKAGE = "sglang"

_OF_EVERY_CLASS = frozenset(dir(object)) | {"__dict__", "__module__", "__name__", "__qualname__", "__call__"}


@dataclass(frozen=True)
class Symbol:
    """What stands behind one dotted path.

    ``kind``: ``attribute`` is a variable of a module or class; ``name`` is what a module imports, or sets to something
    else under a name of its own. ``signature`` is Python source, as ``(self, device_id: int = 0) -> int``; of a class,
    that of the ``__init__`` in its own body. Empty where there is none, and where a name is defined in several ways.
    ``bases`` are a class's, as dotted paths. ``origin`` is the path that a ``name`` stands for, also outside sglang
    (``torch.nn``), or empty where that cannot be told; of a module, what its package binds to its name in its place.
    ``open``: there may be names in it which its text does not show (a module with ``__getattr__``, a class with a base
    that cannot be told).
    """

    kind: SymbolKind
    signature: str = ""
    bases: tuple[str, ...] = ()
    origin: str = ""
    open: bool = False


@dataclass(frozen=True)
class Resolved:
    """A path that is there: ``path`` is where it really leads, through re-exports and base classes."""

    path: str
    symbol: Symbol


@dataclass(frozen=True)
class Unknown:
    """A path that may or may not be there: ``path`` is how far it could be followed, ``why`` what is in the way."""

    path: str
    why: str


@dataclass(frozen=True)
class Index:
    """All that can be named in one release: ``symbols`` by their full dotted path; what each is in is there as well."""

    release: str
    symbols: Mapping[str, Symbol] = field(repr=False)

    def modules(self) -> tuple[str, ...]:
        """The dotted paths of all modules, packages among them, sorted."""
        return tuple(sorted(path for path, symbol in self.symbols.items() if symbol.kind == "module"))

    def members(self, dotted: str) -> tuple[str, ...]:
        """The paths directly below one, sorted: the names of a module, the members in a class's own body."""
        return self._below.get(dotted, ())

    def named(self, name: str) -> tuple[str, ...]:
        """Every path that ends in this name and is defined there, not imported from elsewhere; sorted."""
        return self._by_name.get(name, ())

    def resolve(self, dotted: str) -> Resolved | Unknown | None:
        """Where a path leads, as ``import`` and attribute access would follow it; None where it is certainly absent.

        Re-exports are followed to the definition as long as that is inside sglang, members through base classes. What
        comes from outside sglang ends the search: such a name itself is there, what is in it is unknown.
        """
        return _Search(self.symbols).follow(dotted, ())

    def lineage(self, dotted: str) -> tuple[str, ...]:
        """A class and its bases in the order in which members are looked up; those outside sglang are among them."""
        return _Search(self.symbols).lineage(dotted)

    @cached_property
    def _below(self) -> dict[str, tuple[str, ...]]:
        return _grouped((path.rpartition(".")[0], path) for path in self.symbols)

    @cached_property
    def _by_name(self) -> dict[str, tuple[str, ...]]:
        defined = (path for path, symbol in self.symbols.items() if symbol.kind != "name")
        return _grouped((path.rpartition(".")[2], path) for path in defined)


def inside(dotted: str) -> bool:
    """Whether a path is one of the sglang package."""
    return dotted == PACKAGE or dotted.startswith(f"{PACKAGE}.")


def _grouped(pairs: Iterator[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for key, path in pairs:
        found.setdefault(key, []).append(path)
    return {key: tuple(sorted(paths)) for key, paths in found.items()}


@dataclass(frozen=True)
class _Search:
    symbols: Mapping[str, Symbol]

    def follow(self, dotted: str, trail: tuple[str, ...]) -> Resolved | Unknown | None:
        """``trail`` are the paths being followed already: one that leads back to itself cannot be told."""
        if dotted in trail:
            return Unknown(dotted, "it is imported in a circle")
        trail = (*trail, dotted)
        symbol = self.symbols.get(dotted)
        if symbol is not None:
            return self._origin(dotted, symbol, trail)
        parent, _, name = dotted.rpartition(".")
        if not inside(dotted) or not parent:
            return None if inside(dotted) else Unknown(dotted, "it is outside sglang")
        holder = self._holder(parent, trail)
        return self._member(holder, name, trail) if isinstance(holder, Resolved) else holder

    def _origin(self, dotted: str, symbol: Symbol, trail: tuple[str, ...]) -> Resolved | Unknown:
        here = Resolved(dotted, symbol)
        if not symbol.origin or not inside(symbol.origin):
            return here
        found = self.follow(symbol.origin, trail)
        if found is None:
            return Unknown(dotted, f"it is imported from {symbol.origin}, which is not there")
        # What its origin cannot tell is bound here all the same.
        return found if isinstance(found, Resolved) else here

    def _holder(self, dotted: str, trail: tuple[str, ...]) -> Resolved | Unknown | None:
        """What a path goes on from: an import takes the module even where its package binds its name otherwise."""
        symbol = self.symbols.get(dotted)
        if symbol is not None and symbol.kind == "module":
            return Resolved(dotted, symbol)
        return self.follow(dotted, trail)

    def _member(self, holder: Resolved, name: str, trail: tuple[str, ...]) -> Resolved | Unknown | None:
        path, symbol = f"{holder.path}.{name}", holder.symbol
        if path in self.symbols:
            return self.follow(path, trail)
        if symbol.kind == "module":
            if symbol.origin:
                return self.follow(f"{symbol.origin}.{name}", trail)
            return Unknown(holder.path, "it may have names that its text does not show") if symbol.open else None
        if symbol.kind == "class":
            return self._inherited(holder.path, name, trail)
        return Unknown(holder.path, f"what is in this {symbol.kind} is not known")

    def _inherited(self, dotted: str, name: str, trail: tuple[str, ...]) -> Resolved | Unknown | None:
        unknown = ""
        for base in self.lineage(dotted):
            symbol = self.symbols.get(base)
            if symbol is None or symbol.kind != "class":
                unknown = unknown or base
            elif f"{base}.{name}" in self.symbols:
                return self.follow(f"{base}.{name}", trail)
            elif symbol.open:
                unknown = unknown or base
        if not unknown and name in _OF_EVERY_CLASS:
            return Unknown(dotted, f"every class has {name}, by itself or by its decorator")
        return Unknown(dotted, f"what it has from {unknown} is not known") if unknown else None

    def lineage(self, dotted: str) -> tuple[str, ...]:
        # Each class after all that derive from it: where several paths lead to one, the last place counts.
        return tuple(reversed(dict.fromkeys(reversed(list(self._depth_first(dotted, ()))))))

    def _depth_first(self, dotted: str, trail: tuple[str, ...]) -> Iterator[str]:
        found = self.follow(dotted, ()) if inside(dotted) else None
        path = found.path if isinstance(found, Resolved) and found.symbol.kind == "class" else dotted
        if path in trail:
            return
        yield path
        symbol = self.symbols.get(path)
        for base in symbol.bases if symbol is not None and symbol.kind == "class" else ():
            yield from self._depth_first(base, (*trail, path))
