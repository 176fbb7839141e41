"""The table by which SGLang names the torch.distributed backend of a device, and who is asked first."""

from __future__ import annotations

import ast

from . import syntax
from .environment import registered_name
from .errors import ContractError
from .model import BackendSwitch, BackendTable

TABLE = "_DEVICE_TO_DISTRIBUTED_BACKEND"
LOOKUP = "get_default_distributed_backend"
_ASKED = "get_torch_distributed_backend_str"


def backend_table(table: ast.Dict, lookup: syntax.FunctionNode) -> BackendTable:
    """The contract's backend table.

    ``table`` is the dictionary of devices and backends; ``lookup`` the function of ``parallel_state`` that reads it:
    its second argument to ``.get`` is the fallback, and from 0.5.14 on it asks the active platform first. Raises
    ContractError where either is written in a way not known here.
    """
    backends: dict[str, str] = {}
    switches: list[BackendSwitch] = []
    for key, value in zip(table.keys, table.values, strict=True):
        device, backend = syntax.text(key), syntax.text(value)
        if device is not None and backend is not None:
            backends[device] = backend
            continue
        switch = _switch(device, value) if device is not None else None
        if device is None or switch is None:
            raise ContractError(f"cannot read the entry {ast.unparse(value)!r} of {TABLE}")
        backends[device], exception = switch
        switches.append(exception)
    return BackendTable(backends, tuple(switches), _fallback(lookup), _asks_platform(lookup))


def _switch(device: str, value: ast.expr) -> tuple[str, BackendSwitch] | None:
    """The usual backend and its exception, from ``A if envs.X.get() > N else B`` or the same with ``not``."""
    if not isinstance(value, ast.IfExp):
        return None
    test, above, otherwise = value.test, value.body, value.orelse
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, above, otherwise = test.operand, otherwise, above
    condition = _threshold(test)
    special, usual = syntax.text(above), syntax.text(otherwise)
    if condition is None or special is None or usual is None:
        return None
    variable, limit = condition
    return usual, BackendSwitch(device, variable, limit, special)


def _threshold(test: ast.expr) -> tuple[str, int] | None:
    """``(NAME, N)`` of the comparison ``envs.NAME.get() > N``."""
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Gt)):
        return None
    call, limit = test.left, syntax.constant(test.comparators[0])
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "get"):
        return None
    variable = registered_name(call.func.value)
    return (variable, limit) if variable is not None and type(limit) is int else None


def _fallback(lookup: syntax.FunctionNode) -> str:
    for node in ast.walk(lookup):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"{TABLE}.get" and len(node.args) == 2:
            fallback = syntax.text(node.args[1])
            if fallback is not None:
                return fallback
    raise ContractError(f"{LOOKUP} names no fallback for a device that {TABLE} lacks")


def _asks_platform(lookup: syntax.FunctionNode) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == _ASKED for node in ast.walk(lookup))
