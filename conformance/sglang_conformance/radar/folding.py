"""The constants that a script's expressions come to, where they are put together of names, texts and lists."""

from __future__ import annotations

import ast
from typing import Any

from ..contract import syntax


def folded(node: ast.expr, module: ast.Module) -> Any:
    """What an expression of a module comes to, or :data:`syntax.NOT_CONSTANT`; nothing is run."""
    return syntax.constant(_Folding(module).visit(node))


class _Folding(ast.NodeTransformer):
    """Puts what was assigned in the place of names, and joins texts and lists."""

    def __init__(self, module: ast.Module) -> None:
        self.module = module
        self.inside: tuple[str, ...] = ()

    def visit_Name(self, node: ast.Name) -> ast.expr:
        assigned = syntax.assigned(self.module, node.id)
        if assigned is None or node.id in self.inside:
            return node
        before, self.inside = self.inside, (*self.inside, node.id)
        try:
            found: ast.expr = self.visit(assigned)
        finally:
            self.inside = before
        return found

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        texts = [syntax.text(self.visit(part)) for part in node.values]
        known = [text for text in texts if text is not None]
        return ast.Constant("".join(known)) if len(known) == len(texts) else node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        value: ast.expr = self.visit(node.value)
        return node if node.format_spec is not None or node.conversion != -1 else value

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        if not isinstance(node.op, ast.Add):
            return node
        if isinstance(left, ast.List) and isinstance(right, ast.List):
            return ast.List([*left.elts, *right.elts], ast.Load())
        one, other = syntax.text(left), syntax.text(right)
        return ast.Constant(one + other) if one is not None and other is not None else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if syntax.last_name(node.func) != "dict" or node.args or any(k.arg is None for k in node.keywords):
            return node
        keys: list[ast.expr | None] = [ast.Constant(keyword.arg) for keyword in node.keywords]
        return ast.Dict(keys, [self.visit(keyword.value) for keyword in node.keywords])
