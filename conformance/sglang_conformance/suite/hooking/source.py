"""The source of a hook, where it can be read, and what is certain to happen in it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Definition = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LOOPS_INSIDE = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Text:
    """A function's definition as written, the file it stands in, and its first line there."""

    definition: Definition
    file: str
    first: int

    def place(self, node: ast.stmt | ast.expr) -> str:
        """``file:line`` of a part of it."""
        return f"{self.file}:{self.first + node.lineno - 1}"

    @property
    def positional(self) -> list[str]:
        """The names of the parameters that can be given by position."""
        return [a.arg for a in (*self.definition.args.posonlyargs, *self.definition.args.args)]

    @property
    def returned(self) -> list[ast.expr]:
        """What its own return statements give, those without a value left out."""
        return [n.value for n in own_nodes(self.definition.body) if isinstance(n, ast.Return) and n.value is not None]

    @property
    def is_generator(self) -> bool:
        """Whether calling it runs nothing yet."""
        return any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in own_nodes(self.definition.body))


def function_of(hook: Any) -> tuple[types.FunctionType | None, int]:
    """The plain function in a hook, and how many of its parameters are bound; none for what is made otherwise."""
    if isinstance(hook, types.MethodType):
        return (hook.__func__, 1) if isinstance(hook.__func__, types.FunctionType) else (None, 0)
    return (hook, 0) if isinstance(hook, types.FunctionType) else (None, 0)


def text_of(function: types.FunctionType) -> Text | None:
    """A function's text; None where it cannot be read: compiled, made on the fly, a lambda, or another's."""
    code = function.__code__
    try:
        lines, first = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
        file = str(inspect.getsourcefile(code))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    definition = tree.body[0] if tree.body else None
    if not isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef)) or definition.name != code.co_name:
        return None
    text = Text(definition, file, first)
    return text if tuple(text.positional) == code.co_varnames[: code.co_argcount] else None


def own_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """What stands in a function itself, in what order ever; the insides of functions and classes in it left out."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def certain_calls(text: Text) -> list[ast.Call]:
    """The calls that every run of the function comes to, unless something raises: none under a condition or in a loop,
    none after a statement that may return, and none of a generator, which runs only as far as it is asked.
    """
    return [] if text.is_generator else _certain(text.definition.body)[0]


def _certain(body: Iterable[ast.stmt]) -> tuple[list[ast.Call], bool]:
    """The calls of some statements, and whether what follows them is certain to be reached."""
    calls: list[ast.Call] = []
    for statement in body:
        found, goes_on = _statement(statement)
        calls += found
        if not goes_on:
            return calls, False
    return calls, True


def _statement(statement: ast.stmt) -> tuple[list[ast.Call], bool]:
    if isinstance(statement, _SCOPES):
        return [], True
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        calls, goes_on = _certain(statement.body)
        return [c for item in statement.items for c in _evaluated(item.context_expr)] + calls, goes_on
    if isinstance(statement, ast.Try) and not statement.handlers:
        calls, goes_on = _certain(statement.body)
        last, ends = _certain(statement.finalbody)
        return calls + last, goes_on and ends
    if any(isinstance(part, ast.stmt) for part in ast.iter_child_nodes(statement)) or isinstance(statement, ast.Match):
        head = next(
            (getattr(statement, name) for name in ("test", "iter", "subject") if hasattr(statement, name)), None
        )
        return _evaluated(head) if head is not None else [], not _may_leave(statement)
    return _evaluated(statement), not isinstance(statement, (ast.Return, ast.Raise, ast.Break, ast.Continue))


def _may_leave(statement: ast.stmt) -> bool:
    return any(isinstance(node, (ast.Return, ast.Break, ast.Continue)) for node in own_nodes([statement]))


def _evaluated(node: ast.AST) -> list[ast.Call]:
    """The calls in an expression that are made whenever it is evaluated."""
    if isinstance(node, (*_SCOPES, *_LOOPS_INSIDE)):
        return []
    parts: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.IfExp):
        parts = [node.test]
    elif isinstance(node, ast.BoolOp):
        parts = node.values[:1]
    elif isinstance(node, ast.Compare):
        parts = [node.left, node.comparators[0]]
    own = [node] if isinstance(node, ast.Call) else []
    return own + [call for part in parts for call in _evaluated(part)]
