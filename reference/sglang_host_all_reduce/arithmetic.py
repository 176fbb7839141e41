"""Adding up what lies at addresses.

The parts are added in the order of the ranks: those of sixteen bits in float32, and rounded once; whole numbers wrap;
of truth values the sum is whether any is true, as torch's own is. numpy does the work where it has the type. It uses
one thread at any length, and torch is asked for pieces below the length from which it uses several.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

# Any address can be looked at through a slice of this; making a type for each length would keep them all for ever.
_MEMORY = ctypes.c_char * (1 << 46)
_PIECE = 32_704  # elements: torch uses threads from 32,768


class Arithmetic(Protocol):
    """How elements of one type are seen and added up."""

    width: int

    def view(self, address: int, count: int) -> Any:
        """The elements at an address; whoever uses it knows that the memory is there."""

    def add(self, target: Any, parts: Sequence[Any]) -> None:
        """Write the sum of two or more views to another, which shares no memory with them."""


class _ByNumpy:
    def __init__(self, kind: str) -> None:
        self._kind = np.dtype(kind)
        self.width = self._kind.itemsize

    def view(self, address: int, count: int) -> Any:
        return _array(address, count, self._kind)

    def add(self, target: Any, parts: Sequence[Any]) -> None:
        np.add(parts[0], parts[1], target)
        if len(parts) > 2:
            for part in parts[2:]:
                np.add(target, part, target)


class _ByTorch:
    """For types of sixteen bits, of which numpy lacks one and is slow with the other."""

    width = 2

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._kind = np.dtype(np.int16)

    def view(self, address: int, count: int) -> Any:
        with torch.inference_mode(False):  # what is made within that mode cannot be written outside of it
            return torch.from_numpy(_array(address, count, self._kind)).view(self._dtype)

    def add(self, target: Any, parts: Sequence[Any]) -> None:
        if len(target) <= _PIECE or (len(parts) == 2 and torch.get_num_threads() == 1):
            self._add(target, parts)
            return
        for first in range(0, len(target), _PIECE):
            piece = slice(first, first + _PIECE)
            self._add(target[piece], [part[piece] for part in parts])

    def _add(self, target: Any, parts: Sequence[Any]) -> None:
        if len(parts) == 2:
            torch.add(parts[0], parts[1], out=target)  # in float32, rounded once
            return
        total = parts[0].float()
        for part in parts[1:]:
            total += part.float()
        target.copy_(total)


def _array(address: int, count: int, kind: np.dtype[Any]) -> Any:
    memory: Any = _MEMORY.from_address(address)
    return np.frombuffer(memory, dtype=kind, count=count)


_ARITHMETIC: dict[torch.dtype, Arithmetic] = {
    torch.float32: _ByNumpy("float32"),
    torch.float64: _ByNumpy("float64"),
    torch.float16: _ByTorch(torch.float16),
    torch.bfloat16: _ByTorch(torch.bfloat16),
    torch.int8: _ByNumpy("int8"),
    torch.int16: _ByNumpy("int16"),
    torch.int32: _ByNumpy("int32"),
    torch.int64: _ByNumpy("int64"),
    torch.uint8: _ByNumpy("uint8"),
    torch.uint16: _ByNumpy("uint16"),
    torch.uint32: _ByNumpy("uint32"),
    torch.uint64: _ByNumpy("uint64"),
    torch.bool: _ByNumpy("bool"),
}

DTYPES: tuple[torch.dtype, ...] = tuple(_ARITHMETIC)
"""The types that can be summed; their places here are how ranks name them to each other."""


def arithmetic_of(dtype: torch.dtype) -> Arithmetic:
    """How that type is added up. Raises TypeError where it cannot be."""
    found = _ARITHMETIC.get(dtype)
    if found is None:
        names = ", ".join(str(each).removeprefix("torch.") for each in DTYPES)
        raise TypeError(f"{str(dtype).removeprefix('torch.')} cannot be summed, only {names}")
    return found
