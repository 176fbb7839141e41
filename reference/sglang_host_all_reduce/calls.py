"""What ranks tell each other of the call that they are about to make, as two numbers."""

from __future__ import annotations

import hashlib
from enum import IntEnum

import torch

from .arithmetic import DTYPES


class Call(IntEnum):
    """A call that all ranks make together."""

    ALL_REDUCE = 1
    EMPTY = 2
    SHARED = 3  # the end of EMPTY: whether a rank has the memory


_CODES = {dtype: code for code, dtype in enumerate(DTYPES)}


def what(call: Call, dtype: torch.dtype, strides: tuple[int, ...] = ()) -> int:
    """A call and the type of its elements, as one number, with a digest of the strides where they are given."""
    digest = hashlib.blake2b(repr(strides).encode(), digest_size=4).digest() if strides else b""
    return call | _CODES[dtype] << 8 | int.from_bytes(digest, "little") << 32


def told(number: int, count: int) -> str:
    """What those numbers say, for people."""
    call = Call(number & 255).name.lower()
    text = f"{call} of {count} {str(DTYPES[number >> 8 & 255]).removeprefix('torch.')}"
    return f"{text}, not contiguous (strides {number >> 32:08x})" if number >> 32 else text
