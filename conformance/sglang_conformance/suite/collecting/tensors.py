"""Tensors on a device from plain arrays and back, in the layouts in which a collective may meet them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...oracles.collectives import Array

PLAIN = "contiguous"
OFFSET = "in the midst of a larger tensor"
TRANSPOSED = "transposed"
STRIDED = "every second column"
EXPANDED = "expanded"

_GUARD = 3


def made(numbers: Array, dtype: str, device: Any) -> Any:
    """A contiguous tensor of these numbers."""
    import torch

    return torch.from_numpy(numbers.copy()).to(getattr(torch, dtype)).to(device)


def memory(device: Any) -> Any:
    """Some memory, for :func:`again`: 4 KiB, as bytes."""
    import torch

    return torch.zeros(4 << 10, dtype=torch.uint8, device=device)


def again(memory: Any, given: Array, dtype: str) -> Any:
    """A tensor of these numbers in the first bytes of some :func:`memory`, in place of what lay there."""
    numbers = made(given, dtype, memory.device)
    tensor = memory[: numbers.numel() * numbers.element_size()].view(numbers.dtype).view(numbers.shape)
    return tensor.copy_(numbers)


def poisoned(shape: Sequence[int], dtype: str, device: Any) -> Any:
    """A tensor for results, full of what no result has: NaN, the least integer, or 255 of bytes."""
    import torch

    kind = getattr(torch, dtype)
    return torch.full(tuple(shape), poison(dtype), dtype=kind, device=device)


def poison(dtype: str) -> float:
    """What stands in a result that was not written."""
    import torch

    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return float("nan")
    return {torch.bool: 1, torch.uint8: 255}.get(kind) or torch.iinfo(kind).min


def numbers(tensor: Any) -> Array:
    """What a tensor holds: float64 for floats, int64 for all else. Waits for the device, as copies to the host do."""
    import torch

    host = tensor.detach().cpu()
    found: Array = host.to(torch.float64 if host.is_floating_point() else torch.int64).numpy()
    return found


def synchronise(device: Any) -> None:
    """Wait for all that the device was given to do."""
    import torch

    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def digest(tensor: Any) -> str:
    """What tells a tensor's bits."""
    import hashlib

    import torch

    return hashlib.blake2b(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def noise(dtype: str, count: int, seed: int, device: Any, scale: int = 0) -> Any:
    """A tensor of random numbers of a floating type, whose sums are not exact."""
    from ...oracles import collectives as oracle

    return made(oracle.noise(dtype, count, scale, seed), dtype, device)


@dataclass(frozen=True)
class Laid:
    """A tensor, and the larger one in whose memory it lies; the rest of that holds what nobody may change."""

    tensor: Any
    around: Any
    _rest: Any
    _before: Any

    def disturbed(self) -> int:
        """How many elements beside the tensor's own have changed."""
        return int((numbers(self.around.reshape(-1)[self._rest]) != self._before).sum())


def room(shape: Sequence[int], dtype: str, device: Any) -> Laid:
    """Room for a result in the midst of a larger tensor, poisoned."""
    import numpy as np

    found = laid(np.zeros(tuple(shape)), dtype, device, OFFSET)
    found.tensor.fill_(poison(dtype))
    return found


def laid(given: Array, dtype: str, device: Any, layout: str) -> Laid:
    """A tensor of these numbers in that layout; one that the layout needs a dimension of is contiguous without it."""
    import torch

    flat = made(given, dtype, device)
    if layout == TRANSPOSED and given.ndim > 1:
        memory = flat.movedim(0, -1).contiguous()
        return _within(memory, memory.movedim(-1, 0))
    if layout == EXPANDED and given.ndim > 0:
        return _within(flat, flat[:1].expand_as(flat))
    if layout == STRIDED and given.ndim > 0:
        memory = torch.zeros((*given.shape[:-1], 2 * given.shape[-1]), dtype=flat.dtype, device=device)
        memory[..., ::2] = flat
        return _within(memory, memory[..., ::2])
    if layout == OFFSET:
        memory = torch.ones(given.size + 2 * _GUARD, dtype=flat.dtype, device=device)
        inner = memory[_GUARD : _GUARD + given.size].view(given.shape)
        inner.copy_(flat)
        return _within(memory, inner)
    return _within(flat, flat)


def _within(memory: Any, tensor: Any) -> Laid:
    import torch

    marks = torch.zeros(memory.shape, dtype=torch.bool)
    offset, strides = tensor.storage_offset() - memory.storage_offset(), tensor.stride()
    torch.as_strided(marks, tensor.shape, strides, offset).fill_(True)
    rest = (~marks.reshape(-1)).nonzero().reshape(-1).to(memory.device)
    return Laid(tensor, memory, rest, numbers(memory.reshape(-1)[rest]))
