"""What changed for hooks and imports between two releases: the difference of their indexes, as data."""

from __future__ import annotations

import ast
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from .index import Index, Resolved, Symbol, Unknown
from .moves import likely_place

SCHEMA = "sglang-conformance/hook-target-diff/1"

CORE = ("sglang.srt.", "sglang.kernels.")
"""What is meant where nothing else is said: SGLang's core, without the diffusion models, benchmarks and tests."""

TargetChangeKind = Literal["gone", "moved", "changed"]

_TARGETS = frozenset({"module", "class", "function", "method", "classmethod", "staticmethod", "property"})


@dataclass(frozen=True)
class TargetChange:
    """One path of the older release of which hooks and imports must know.

    ``gone``: it leads nowhere. ``moved``: the same, and ``after`` is where the thing has likely gone. ``changed``: it
    is there, and is another kind of thing or takes other arguments: ``before`` and ``after`` tell. What has gone with
    its class or module is not told again: ``within`` counts it.
    """

    kind: TargetChangeKind
    path: str
    before: str
    after: str = ""
    within: int = 0


@dataclass(frozen=True)
class TargetDiff:
    """What differs for hooks and imports between two releases; ``targets`` is how many paths were compared."""

    older: str
    newer: str
    targets: int
    changes: tuple[TargetChange, ...]

    def count(self, kind: TargetChangeKind) -> int:
        """How many paths are so, those within a class or module that is gone among them."""
        return sum(1 + change.within for change in self.changes if change.kind == kind)

    def to_json(self, *, every_target: bool = True) -> dict[str, Any]:
        """The difference as plain JSON data; ``every_target``: the changes one by one, and not only their numbers."""
        data: dict[str, Any] = {"schema": SCHEMA, "older": self.older, "newer": self.newer, "targets": self.targets}
        data |= {kind: self.count(kind) for kind in get_args(TargetChangeKind)}
        return data | ({"changes": [asdict(change) for change in self.changes]} if every_target else {})


def target_diff(older: Index, newer: Index, *, within: tuple[str, ...] = CORE) -> TargetDiff:
    """What changed for the paths that begin with one of ``within``: those of modules, classes, functions and methods.

    Attributes and imported names are not compared, nor are annotations and the values of defaults; a path that is still
    there by a re-export is not gone; one of which it cannot be told is left out. That a class is made otherwise is told
    of the class, not of its ``__init__`` again.
    """
    targets = {p: s for p, s in older.symbols.items() if s.kind in _TARGETS and p.startswith(within)}
    found: dict[str, TargetChange] = {}
    inside: dict[str, int] = {}
    for path, symbol in sorted(targets.items()):
        change = _change(path, symbol, older, newer)
        holder = _holder(path, found)
        if holder and not (change is not None and _elsewhere(change, found[holder])):
            inside[holder] = inside.get(holder, 0) + 1
        elif change is not None:
            found[path] = change
    changes = (_with(change, inside.get(path, 0)) for path, change in found.items())
    return TargetDiff(older.release, newer.release, len(targets), tuple(changes))


def _holder(path: str, found: dict[str, TargetChange]) -> str:
    """What is gone or moved already and has this path in it, or empty."""
    parent = path.rpartition(".")[0]
    while parent:
        if parent in found and found[parent].kind != "changed":
            return parent
        parent = parent.rpartition(".")[0]
    return ""


def _elsewhere(change: TargetChange, holder: TargetChange) -> bool:
    """Whether what was in a module has gone another way than the module."""
    return change.kind == "moved" and change.after != holder.after + change.path.removeprefix(holder.path)


def _change(path: str, symbol: Symbol, older: Index, newer: Index) -> TargetChange | None:
    now = newer.symbols.get(path)
    if now == symbol:
        return None
    led = newer.resolve(path)
    if isinstance(led, Unknown):
        return None
    if led is None:
        place = likely_place(older, newer, path)
        return TargetChange("moved" if place else "gone", path, _text(symbol), place)
    return _otherwise(path, symbol, led)


def _otherwise(path: str, symbol: Symbol, led: Resolved) -> TargetChange | None:
    now = led.symbol
    # A name, and a definition that branches make differently, may be anything.
    if (
        now.kind == "name"
        or symbol.kind == "module"
        or (now.kind == symbol.kind and not (now.signature and symbol.signature))
    ):
        return None
    told_of_class = path.endswith(".__init__")
    if now.kind != symbol.kind or (_taken(now.signature) != _taken(symbol.signature) and not told_of_class):
        return TargetChange("changed", path, _text(symbol), _text(now))
    return None


def _text(symbol: Symbol) -> str:
    return f"{symbol.kind} {symbol.signature}".rstrip()


def _with(change: TargetChange, within: int) -> TargetChange:
    return TargetChange(change.kind, change.path, change.before, change.after, within)


def _taken(signature: str) -> str:
    """A signature without annotations, and with the same value for every default: what decides which calls fit."""
    if not signature:
        return ""
    function = ast.parse(f"def f{signature}: ...").body[0]
    arguments = cast(ast.FunctionDef, function).args
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    arguments.defaults = [ast.Constant(0) for _ in arguments.defaults]
    arguments.kw_defaults = [default and ast.Constant(0) for default in arguments.kw_defaults]
    return ast.unparse(arguments)
