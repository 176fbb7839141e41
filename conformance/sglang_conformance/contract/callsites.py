"""Find where SGLang's core uses the members of a platform, by following the platform object through each file."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from . import syntax
from .model import CallSite, Shape
from .source import Source

_CORE = ("srt", "kernels")
_NOT_CORE = "srt/platforms/"
_TEST_FOLDERS = frozenset({"test", "tests"})
_MENTION = b"current_platform"


def call_sites(source: Source, members: frozenset[str]) -> dict[str, tuple[CallSite, ...]]:
    """The places in SGLang's core that use each member through ``current_platform``, with the shape of each call.

    The core is ``srt`` and ``kernels`` without the platforms themselves and without tests. A file whose
    ``current_platform`` is the diffusion one (``sglang.multimodal_gen``) holds no site. Members that core never uses
    are absent.
    """
    found: dict[str, set[CallSite]] = {}
    for name in filter(_is_core, source.names(*_CORE)):
        text = source.read(name)
        if _MENTION not in text:
            continue
        for member, site in uses(syntax.parse(text, f"sglang/{name}"), name, members):
            found.setdefault(member, set()).add(site)
    return {m: tuple(sorted(sites, key=lambda s: (s.path, s.line, str(s.call)))) for m, sites in found.items()}


def _is_core(name: str) -> bool:
    return not name.startswith(_NOT_CORE) and _TEST_FOLDERS.isdisjoint(name.split("/"))


def uses(module: ast.Module, name: str, members: frozenset[str]) -> list[tuple[str, CallSite]]:
    """Each use of a platform member in one module; ``name`` is its path inside the package.

    A member that a local name is given (``get = current_platform.get_device``) is read there, and called where the name
    is called.
    """
    finder = _Finder(name, members)
    finder.run(module)
    return finder.found


def _is_platform(origin: str | None) -> bool:
    """Whether a dotted path is the active platform of ``sglang.srt``, or a module's re-export of it.

    Core imports it from ``sglang.srt.utils`` too (0.5.23, srt/mem_cache/dsa_cache_layer_split.py).
    """
    return origin is not None and origin.startswith("sglang.srt.") and origin.endswith(".current_platform")


def _package_of(name: str) -> str:
    """The dotted package that relative imports of the file start from."""
    return ".".join(("sglang", *PurePosixPath(name).parent.parts))


class _Finder(ast.NodeVisitor):
    """Walks one module in source order, knowing which names stand for which part of ``sglang``.

    ``origins`` maps a name to the dotted path it stands for, in the scope being walked. Function bodies run after
    their enclosing scope, so they wait until it has been walked and start from the names it ended with.
    """

    def __init__(self, name: str, members: frozenset[str]) -> None:
        self.name = name
        self.package = _package_of(name)
        self.members = members
        self.found: list[tuple[str, CallSite]] = []
        self.called: dict[int, Shape] = {}  # by the identity of the node that is called
        self.origins: dict[str, str] = {}
        self.waiting: list[ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda] = []

    def run(self, module: ast.Module) -> None:
        self._scope(module.body, {})

    def _scope(self, body: Iterable[ast.AST], origins: dict[str, str]) -> None:
        self.origins, self.waiting = origins, []
        for statement in body:
            self.visit(statement)
        origins, waiting = self.origins, self.waiting
        for function in waiting:
            inner = function.body if isinstance(function.body, list) else [function.body]
            self._scope(inner, _inside(function.args, origins))

    # ---- uses

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load) and _is_platform(self._origin(node.value)):
            self._use(node.attr, node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.called[id(node.func)] = _shape(node)
        holder, member = self._asked_by_name(node, "getattr", "hasattr")
        if _is_platform(holder):
            self._use(member, node)
        self.generic_visit(node)

    def _asked_by_name(self, node: ast.expr, *functions: str) -> tuple[str | None, str]:
        """The object and the name that one of these functions is given: ``getattr(object, "name", …)``."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
            return (self._origin(node.args[0]), syntax.text(node.args[1]) or "") if len(node.args) > 1 else (None, "")
        return None, ""

    def _use(self, member: str, node: ast.expr) -> None:
        if member in self.members:
            self.found.append((member, CallSite(self.name, node.lineno, self.called.get(id(node)))))

    # ---- what a name stands for

    def _origin(self, node: ast.expr) -> str | None:
        """The dotted path of ``sglang`` that an expression evaluates to, as far as it can be told."""
        if isinstance(node, ast.Name):
            return self.origins.get(node.id)
        if isinstance(node, ast.Attribute):
            parent = self._origin(node.value)
            return f"{parent}.{node.attr}" if parent else None
        if isinstance(node, ast.IfExp):
            return self._origin(node.body) or self._origin(node.orelse)
        if isinstance(node, ast.NamedExpr):
            return self._origin(node.value)
        parent, name = self._asked_by_name(node, "getattr")
        return f"{parent}.{name}" if parent and name else None

    def _bind(self, name: str, origin: str | None) -> None:
        if origin is not None and origin.split(".")[0] == "sglang":
            self.origins[name] = origin
        else:
            self.origins.pop(name, None)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname:
                self._bind(alias.asname, alias.name)
            else:
                top = alias.name.split(".")[0]
                self._bind(top, top)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = syntax.imported_from(node, self.package)
        for alias in node.names:
            self._bind(alias.asname or alias.name, f"{module}.{alias.name}")

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._assign(node.target, node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._assign(node.target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        # `current_platform = None` guards a failed import: elsewhere in the file the name is still the platform.
        if isinstance(target, ast.Name):
            if not (isinstance(value, ast.Constant) and value.value is None):
                self._bind(target.id, self._origin(value))
        else:
            self.visit(target)

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            # Loop targets, `with ... as`, unpacking and `del`: the name now stands for something unknown.
            self._bind(node.id, None)
        elif id(node) in self.called:
            holder, _, member = (self._origin(node) or "").rpartition(".")
            if _is_platform(holder):
                self._use(member, node)

    # ---- scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in (*node.decorator_list, node.args):
            self.visit(part)
        self._bind(node.name, None)
        self.waiting.append(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self.waiting.append(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        self._bind(node.name, None)
        # Names bound in a class body are not seen by its methods.
        outside, self.origins = self.origins, dict(self.origins)
        for statement in node.body:
            self.visit(statement)
        self.origins = outside

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        outside, self.origins = self.origins, dict(self.origins)
        for generator in node.generators:
            self.visit(generator)
        for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            self.visit(part)
        self.origins = outside

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815


def _shape(call: ast.Call) -> Shape:
    stars = [argument for argument in call.args if isinstance(argument, ast.Starred)]
    names = tuple(keyword.arg for keyword in call.keywords if keyword.arg is not None)
    return Shape(len(call.args) - len(stars), names, bool(stars), len(names) < len(call.keywords))


def _inside(arguments: ast.arguments, origins: dict[str, str]) -> dict[str, str]:
    """The names a function body starts with: those of its enclosing scope that its parameters do not hide.

    A parameter named ``current_platform`` hides nothing: core passes the platform on under its own name
    (0.5.23, srt/mem_cache/kv_cache_configurator.py).
    """
    hidden = set(_parameters(arguments)) - {"current_platform"}
    return {name: origin for name, origin in origins.items() if name not in hidden}


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        yield argument.arg
    yield from (a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None)
