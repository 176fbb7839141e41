"""Writing weights as torch keeps them, without torch: nothing that a vendor patches has a part in it.

A file of ``torch.save`` is a zip, uncompressed, of a pickle and the tensors' numbers, each in a file of its own. Only a
dict of contiguous float32 tensors is written here; ``torch.load`` reads it, also with ``weights_only`` and ``mmap``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ROOT = "archive"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Leave a dict of float32 tensors at a path, the same bytes for the same numbers. Raises OSError."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        _add(file, "data.pkl", _pickled({name: array.shape for name, array in tensors.items()}))
        _add(file, "byteorder", b"little")
        for index, array in enumerate(tensors.values()):
            _add(file, f"data/{index}", np.ascontiguousarray(array, dtype="<f4").tobytes())
        _add(file, "version", b"3\n")


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    file.writestr(zipfile.ZipInfo(f"{_ROOT}/{name}", _EPOCH), content)


def _pickled(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """A dict of tensors, in the codes of pickle's second protocol: tensor ``i`` is made of storage ``i``."""
    parts = [b"\x80\x02}("]
    for index, (name, shape) in enumerate(shapes.items()):
        count = int(np.prod(shape))
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        storage = _text("storage") + _known("torch", "FloatStorage") + _text(str(index)) + _text("cpu") + _int(count)
        parts += [
            _text(name),
            _known("torch._utils", "_rebuild_tensor_v2"),
            b"((" + storage + b"tQ",
            _int(0) + _ints(shape) + _ints(strides) + b"\x89",
            _known("collections", "OrderedDict") + b")RtR",
        ]
    return b"".join(parts) + b"u."


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _known(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _int(number: int) -> bytes:
    return b"J" + number.to_bytes(4, "little", signed=True)


def _ints(numbers: tuple[int, ...] | list[int]) -> bytes:
    return b"(" + b"".join(_int(number) for number in numbers) + b"t"
