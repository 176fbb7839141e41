"""What one module of SGLang names, read from its text: the symbols of an index before modules are put together."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from . import computed_names, syntax
from .computed_names import Exported
from .index import Symbol, SymbolKind
from .members import signature

# Bases that bring nothing a plugin could mean.
_PLAIN = frozenset(
    {"builtins.object", "abc.ABC", "typing.Generic", "typing.Protocol", "typing_extensions.Protocol"},
)
_PLAIN_METACLASSES = frozenset({"ABCMeta", "EnumMeta", "EnumType", "type"})
_ACCESSORIES = frozenset({"setter", "deleter", "getter", "overload"})
_BUILT_IN = frozenset(dir(builtins))


@dataclass(frozen=True)
class ModuleNames:
    """``symbols`` by their path below the module (``Scheduler.run_batch``).

    ``stars`` are the modules of which it imports all names, ``exported`` says what another takes of it in that way.
    ``open``: it may have names that its text does not show.
    """

    symbols: Mapping[str, Symbol]
    stars: tuple[str, ...] = ()
    exported: Exported = field(default_factory=Exported)
    open: bool = False


@dataclass(frozen=True)
class _Bound:
    """What a statement binds a name to; ``below`` is what a class's body binds in turn."""

    symbol: Symbol
    below: Mapping[str, Symbol] = field(default_factory=dict)
    guard: bool = False


def read(text: bytes, dotted: str, *, package: bool) -> ModuleNames:
    """The names of the module ``dotted``; ``package``: whether its text is that of an ``__init__.py``.

    Names under ``if TYPE_CHECKING`` are left out: they are not there at run time. Those in the branches of ``if`` and
    ``try`` are all there; where branches define one differently, only what they agree on is kept. Raises ContractError
    where the text is not Python.
    """
    module = syntax.parse(text, dotted)
    reader = _Reader(dotted, dotted if package else dotted.rpartition(".")[0])
    reader.body(module.body, always=True)
    made = computed_names.made(module) if computed_names.mentioned(text) else computed_names.Made()
    for name in (*made.names, *(_declared_global(module) if b"global " in text else ())):
        reader.found.setdefault(name, [_Bound(Symbol("attribute"))])
    symbols = reader.symbols()
    return ModuleNames(
        symbols=symbols,
        stars=tuple(dict.fromkeys(reader.stars)),
        exported=computed_names.exported(module),
        open=made.open or "__getattr__" in symbols,
    )


class _Reader:
    """Walks a body in order: that of a module, or of a class in it."""

    def __init__(self, dotted: str, package: str, outer: _Reader | None = None) -> None:
        self.dotted = dotted
        self.package = package
        self.outer = outer
        self.found: dict[str, list[_Bound]] = {}
        self.stars: list[str] = []

    def symbols(self) -> dict[str, Symbol]:
        """All that is bound when the body has run, by the path below it."""
        made: dict[str, Symbol] = {}
        for name, bounds in self.found.items():
            one = _agreed(bounds, "name" if self.outer is None else "attribute")
            made[name] = one.symbol
            made.update({f"{name}.{path}": symbol for path, symbol in one.below.items()})
        return made

    def body(self, statements: list[ast.stmt], *, always: bool) -> None:
        """``always``: whether these statements run whatever happens, so that what they bind takes the place of more."""
        for statement in statements:
            for name, bound in self._bindings(statement):
                before = [] if always and not bound.guard else self.found.get(name, [])
                self.found[name] = [*before, bound]
            if isinstance(statement, ast.Delete) and always:
                for target in statement.targets:
                    self.found.pop(ast.unparse(target), None)
            for inner in _blocks(statement):
                self.body(inner, always=always and isinstance(statement, ast.With))

    def _bindings(self, node: ast.stmt) -> Iterator[tuple[str, _Bound]]:
        if isinstance(node, syntax.FunctionNode):
            if not any(syntax.last_name(decorator) in _ACCESSORIES for decorator in node.decorator_list):
                yield node.name, _Bound(Symbol(self._function_kind(node), signature(node)))
        elif isinstance(node, ast.ClassDef):
            yield node.name, self._class(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                origin = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or origin, _Bound(Symbol("name", origin=origin))
        elif isinstance(node, ast.ImportFrom):
            yield from self._imported(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from self._assigned(target, node.value)
        elif isinstance(node, ast.AnnAssign) and (node.value is not None or self.outer is not None):
            # A class's fields are there without a value too, as slots or in its constructor.
            yield from self._assigned(node.target, node.value)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            yield from self._assigned(node.target, None)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                if item.optional_vars is not None:
                    yield from self._assigned(item.optional_vars, None)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._set(node.value)

    def _imported(self, node: ast.ImportFrom) -> Iterator[tuple[str, _Bound]]:
        origin = syntax.imported_from(node, self.package)
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(origin)
            else:
                yield alias.asname or alias.name, _Bound(Symbol("name", origin=f"{origin}.{alias.name}"))

    def _assigned(self, target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, _Bound]]:
        if isinstance(target, ast.Name):
            origin = self._path(value) if value is not None and self.outer is None else ""
            guard = isinstance(value, ast.Constant) and value.value is None
            symbol = Symbol("name", origin=origin) if origin else Symbol("attribute")
            yield target.id, _Bound(symbol, guard=guard)
            if target.id == "__slots__" and value is not None:
                slots = syntax.constant(value)
                names = [slots] if isinstance(slots, str) else slots if isinstance(slots, list) else []
                yield from ((name, _Bound(Symbol("attribute"))) for name in names)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for item in target.elts:
                yield from self._assigned(item, None)
        elif isinstance(target, ast.Starred):
            yield from self._assigned(target.value, None)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            self._hang(target.value.id, target.attr)

    def _set(self, call: ast.Call) -> None:
        """``setattr(Class, "name", …)``; where the name is made, the class may have any."""
        if syntax.last_name(call.func) == "setattr" and len(call.args) == 3 and isinstance(call.args[0], ast.Name):
            self._hang(call.args[0].id, syntax.text(call.args[1]))

    def _hang(self, owner: str, name: str | None) -> None:
        """Give a class of this body a member from outside its own."""
        for number, bound in enumerate(self.found.get(owner, ())):
            if bound.symbol.kind == "class":
                symbol = bound.symbol if name else replace(bound.symbol, open=True)
                below = {**bound.below, name: Symbol("attribute")} if name else bound.below
                self.found[owner][number] = replace(bound, symbol=symbol, below=below)

    # ---- classes

    def _function_kind(self, node: syntax.FunctionNode) -> SymbolKind:
        if self.outer is None:
            return "function"
        names = [syntax.last_name(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
        if any(name.endswith("property") for name in names):
            return "property"
        if "staticmethod" in names or node.name == "__new__":
            return "staticmethod"
        return "classmethod" if "classmethod" in names else "method"

    def _class(self, node: ast.ClassDef) -> _Bound:
        inner = _Reader(f"{self.dotted}.{node.name}", self.package, self)
        inner.body(node.body, always=True)
        below = inner.symbols()
        bases = [self._path(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]
        metaclasses = [keyword.value for keyword in node.keywords if keyword.arg == "metaclass"]
        unusual = any(syntax.last_name(each) not in _PLAIN_METACLASSES for each in metaclasses)
        constructor = below.get("__init__")
        symbol = Symbol(
            "class",
            signature=constructor.signature if constructor is not None else "",
            bases=tuple(base for base in bases if base and base not in _PLAIN),
            open=unusual or not all(bases),
        )
        return _Bound(symbol, below)

    def _path(self, node: ast.expr) -> str:
        """The dotted path that an expression of names stands for, or empty where it cannot be told."""
        if isinstance(node, ast.Attribute):
            holder = self._path(node.value)
            return f"{holder}.{node.attr}" if holder else ""
        if not isinstance(node, ast.Name):
            return ""
        bounds = self.found.get(node.id)
        if bounds is None:
            if self.outer is not None:
                return self.outer._path(node)
            return f"builtins.{node.id}" if node.id in _BUILT_IN else ""
        one = _agreed(bounds, "name").symbol
        if one.kind == "name":
            return one.origin or f"{self.dotted}.{node.id}"
        return f"{self.dotted}.{node.id}" if one.kind in ("class", "function") else ""


def _agreed(bounds: list[_Bound], otherwise: SymbolKind) -> _Bound:
    """What all bindings of a name have in common; a ``name = None`` beside others only guards against their failure."""
    real = [bound for bound in bounds if not bound.guard] or bounds
    first = real[0]
    if all(bound == first for bound in real):
        return first
    if {bound.symbol.kind for bound in real} != {first.symbol.kind} or first.symbol.kind in ("name", "attribute"):
        return _Bound(Symbol(otherwise))
    signatures = {bound.symbol.signature for bound in real}
    symbol = replace(
        first.symbol,
        signature=first.symbol.signature if len(signatures) == 1 else "",
        bases=tuple(dict.fromkeys(base for bound in real for base in bound.symbol.bases)),
        open=any(bound.symbol.open for bound in real),
    )
    below: dict[str, Symbol] = {}
    for path in dict.fromkeys(path for bound in real for path in bound.below):
        below[path] = _agreed([_Bound(b.below[path]) for b in real if path in b.below], "attribute").symbol
    return _Bound(symbol, below)


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks of a statement that belong to the same scope and run, or may run, when it is imported."""
    if isinstance(node, ast.If):
        checking = syntax.last_name(node.test) == "TYPE_CHECKING"
        yield from ([] if checking else [node.body])
        negated = isinstance(node.test, ast.UnaryOp) and syntax.last_name(node.test.operand) == "TYPE_CHECKING"
        yield from ([] if negated else [node.orelse])
    elif isinstance(node, ast.Try):
        yield node.body
        yield from (handler.body for handler in node.handlers)
        yield from (node.orelse, node.finalbody)
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
        yield from (node.body, node.orelse)
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        yield node.body
    elif isinstance(node, ast.Match):
        yield from (case.body for case in node.cases)


def _declared_global(module: ast.Module) -> Iterator[str]:
    """The names that functions of the module make by ``global``."""
    return (name for node in ast.walk(module) if isinstance(node, ast.Global) for name in node.names)
