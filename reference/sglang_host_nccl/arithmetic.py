"""Reducing what several ranks have, in memory that is given by its address.

The parts are combined in the order of the ranks, so that every rank gets the same bits. Of the types of eight and
sixteen bits that are no integers, which torch alone knows, more than two parts are added up in float32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from .codes import TYPES

# Any address can be looked at through a slice of this; making a type for each length would keep them all for ever.
_MEMORY = ctypes.c_char * (1 << 46)
_UFUNCS = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "avg": np.add}
_TORCHS = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "avg": "add"}
_NUMPY_TYPES = {
    code: np.dtype(kind.name)
    for code, kind in enumerate(TYPES)
    if kind.name.startswith(("int", "uint", "float32", "float64"))
}


def reduce_into(target: int, parts: Sequence[int], count: int, code: int, operation: str) -> None:
    """Write the reduction of ``count`` elements at each of the addresses ``parts``, two or more, to ``target``.

    ``code`` is that of their type. ``target`` may be one of the first two parts.
    """
    if count == 0:
        return
    kind = _NUMPY_TYPES.get(code)
    if kind is None:
        _reduce_by_torch(target, parts, count, code, operation)
        return
    combine, out = _UFUNCS[operation], _array(target, count, kind)
    combine(_array(parts[0], count, kind), _array(parts[1], count, kind), out=out)
    for part in parts[2:]:
        combine(out, _array(part, count, kind), out=out)
    if operation == "avg":
        _divide(out, len(parts))


def copy(target: int, source: int, size: int) -> None:
    """Copy bytes, also where the two overlap; nothing where they are the same."""
    if size and target != source:
        ctypes.memmove(target, source, size)


def _array(address: int, count: int, kind: np.dtype[Any]) -> Any:
    memory: Any = _MEMORY.from_address(address)
    return np.frombuffer(memory, dtype=kind, count=count)


def _divide(out: Any, parts: int) -> None:
    if out.dtype.kind == "f":
        np.divide(out, parts, out=out)
    else:  # towards zero, as C does
        np.copyto(out, np.where(out < 0, -(-out // parts), out // parts) if out.dtype.kind == "i" else out // parts)


def _reduce_by_torch(target: int, parts: Sequence[int], count: int, code: int, operation: str) -> None:
    import torch

    kind = TYPES[code]
    dtype, memory = getattr(torch, kind.name), np.dtype(f"int{8 * kind.size}")

    def tensor(address: int) -> Any:
        return torch.from_numpy(_array(address, count, memory)).view(dtype)

    combine = getattr(torch, _TORCHS[operation])
    out = tensor(target)
    if len(parts) == 2 and kind.size == 2 and operation != "avg":
        combine(tensor(parts[0]), tensor(parts[1]), out=out)
        return
    total = tensor(parts[0]).float()
    for part in parts[1:]:
        combine(total, tensor(part).float(), out=total)
    out.copy_(total / len(parts) if operation == "avg" else total)
