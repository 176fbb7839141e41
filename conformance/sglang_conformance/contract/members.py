"""The members of the platform's base classes: signature, default behaviour and mark, read from their definitions."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Mapping

from . import syntax
from .model import CallSite, Default, Member, MemberKind, Owner

# A private name that plugins must set all the same: every identity query reads it.
PRIVATE_BUT_CONTRACT = frozenset({"_enum"})

_MARK = re.compile(r"\[(Active|Planned)\]")
_PROPERTIES = frozenset({"property", "cached_property"})


def members(
    classes: Mapping[Owner, ast.ClassDef],
    enums: Mapping[str, tuple[str, ...]],
    calls: Mapping[str, tuple[CallSite, ...]],
) -> tuple[Member, ...]:
    """Every public member of ``classes`` (base class first), in the order of their definition.

    ``enums`` maps the contract's enum classes to their members: a default such as ``PlatformEnum.UNSPECIFIED`` is
    recorded as the constant ``UNSPECIFIED``. A name defined twice belongs to the class further down, whose definition
    is the one that a platform inherits.
    """
    found: dict[str, Member] = {}
    for owner, node in classes.items():
        for member in _of_class(owner, node, enums, calls):
            found.pop(member.name, None)
            found[member.name] = member
    return tuple(found.values())


def names(classes: Mapping[Owner, ast.ClassDef]) -> frozenset[str]:
    """The names of all members, for the search of call sites."""
    return frozenset(member.name for member in members(classes, {}, {}))


def _of_class(
    owner: Owner,
    node: ast.ClassDef,
    enums: Mapping[str, tuple[str, ...]],
    calls: Mapping[str, tuple[CallSite, ...]],
) -> list[Member]:
    found = []
    for statement in node.body:
        if isinstance(statement, syntax.FunctionNode) and _public(statement.name) and not _accessory(statement):
            found.append(_function(owner, statement, enums, calls.get(statement.name, ())))
        for name, value in syntax.assignments([statement]):
            if _public(name):
                default = _attribute_default(value, enums)
                found.append(Member(name, owner, "attribute", "", default, None, calls.get(name, ())))
    return found


def _public(name: str) -> bool:
    return not name.startswith("_") or name in PRIVATE_BUT_CONTRACT


def _accessory(node: syntax.FunctionNode) -> bool:
    """Whether a definition only adds to another of the same name."""
    return any(syntax.last_name(d) in ("setter", "deleter", "overload") for d in node.decorator_list)


def _function(
    owner: Owner, node: syntax.FunctionNode, enums: Mapping[str, tuple[str, ...]], calls: tuple[CallSite, ...]
) -> Member:
    mark = _MARK.search(ast.get_docstring(node) or "")
    return Member(
        name=node.name,
        owner=owner,
        kind=_kind(node),
        signature=signature(node),
        default=_function_default(node, enums),
        mark=mark.group(1) if mark else None,
        calls=calls,
    )


def _kind(node: syntax.FunctionNode) -> MemberKind:
    decorators = {syntax.last_name(d) for d in node.decorator_list}
    if decorators & _PROPERTIES:
        return "property"
    if "contextmanager" in decorators:
        return "contextmanager"
    return "classmethod" if "classmethod" in decorators else "method"


def signature(node: syntax.FunctionNode) -> str:
    """The definition's arguments and return annotation as one line of source, quotes of annotations dropped."""
    returns = f" -> {_annotation(node.returns)}" if node.returns is not None else ""
    return f"({', '.join(_parameters(node.args))}){returns}"


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    for index, (parameter, default) in enumerate(zip(positional, defaults, strict=True), start=1):
        yield _parameter(parameter, default)
        if index == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg is not None:
        yield f"*{_parameter(arguments.vararg, None)}"
    elif arguments.kwonlyargs:
        yield "*"
    for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(parameter, default)
    if arguments.kwarg is not None:
        yield f"**{_parameter(arguments.kwarg, None)}"


def _parameter(parameter: ast.arg, default: ast.expr | None) -> str:
    value = _source(default) if default is not None else ""
    if parameter.annotation is None:
        return f"{parameter.arg}={value}" if value else parameter.arg
    annotated = f"{parameter.arg}: {_annotation(parameter.annotation)}"
    return f"{annotated} = {value}" if value else annotated


def _annotation(node: ast.expr) -> str:
    quoted = any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))
    return _source(_Unquote().visit(copy.deepcopy(node)) if quoted else node)


def _source(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)


class _Unquote(ast.NodeTransformer):
    """Turns quoted annotations into the expressions they quote, so that both spellings give one signature."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        # The strings of a Literal are values, not quoted types.
        if syntax.last_name(node.value) == "Literal":
            return node
        self.generic_visit(node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if not isinstance(node.value, str):
            return node
        try:
            quoted: ast.expr = ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return node
        visited: ast.expr = self.visit(quoted)
        return visited


def _function_default(node: syntax.FunctionNode, enums: Mapping[str, tuple[str, ...]]) -> Default:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not body:
        return Default("noop")
    if len(body) > 1:
        return Default("code")
    only = body[0]
    if isinstance(only, ast.Pass) or (isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant)):
        return Default("noop")
    if isinstance(only, ast.Raise) and only.exc is not None:
        raised = only.exc.func if isinstance(only.exc, ast.Call) else only.exc
        return Default("raises", syntax.last_name(raised))
    if isinstance(only, ast.Return):
        return Default("noop") if only.value is None else _value(only.value, enums)
    return Default("code")


def _attribute_default(value: ast.expr | None, enums: Mapping[str, tuple[str, ...]]) -> Default:
    # An attribute that is only annotated does not exist until a subclass sets it.
    return Default("raises", "AttributeError") if value is None else _value(value, enums)


def _value(node: ast.expr, enums: Mapping[str, tuple[str, ...]]) -> Default:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        known = enums.get(node.value.id, ())
        return Default("returns", node.attr) if node.attr in known else Default("code")
    value = syntax.constant(node)
    return Default("code") if value is syntax.NOT_CONSTANT else Default("returns", value)
