"""Which tensors an engine takes: by their bytes, type and layout alone.

Facts: SGLang 0.5.11 to 0.5.23, ``should_custom_ar`` of both generations, and ``is_weak_contiguous``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from .limits import PACK, Limits


@dataclass(frozen=True)
class Layout:
    """A tensor without its values. Strides and ``offset`` are in elements; the storage is as many bytes as given."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    itemsize: int
    storage_bytes: int
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return prod(self.sizes)

    @property
    def nbytes(self) -> int:
        """The bytes of its elements."""
        return self.elements * self.itemsize


def layout_of(tensor: Any) -> Layout:
    """The layout of a torch tensor."""
    return Layout(
        tuple(tensor.size()),
        tuple(tensor.stride()),
        tensor.storage_offset(),
        tensor.element_size(),
        tensor.untyped_storage().nbytes(),
        str(tensor.dtype).removeprefix("torch."),
    )


def contiguous(layout: Layout) -> bool:
    """Whether the elements lie one after the other in the order of the indices, as torch has it."""
    if layout.elements == 0:
        return True
    expected = 1
    for size, stride in zip(reversed(layout.sizes), reversed(layout.strides), strict=True):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def dense(layout: Layout) -> bool:
    """Whether the elements fill one stretch of memory, each once, in whatever order: a permutation of contiguous."""
    if layout.elements == 0:
        return True
    expected = 1
    for stride, size in sorted(zip(layout.strides, layout.sizes, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def weakly_contiguous(layout: Layout) -> bool:
    """Whether the engines may read it as one stretch: contiguous, or a dense rest of its storage.

    SGLang looks only at how many bytes the storage has left from the tensor's first element on. Elements that overlap
    can be as many, and are read wrongly; so this asks besides whether each has memory of its own.
    """
    left = layout.storage_bytes - layout.offset * layout.itemsize
    return contiguous(layout) or (left == layout.nbytes and dense(layout))


def refusal(layout: Layout, limits: Limits, *, graph: bool = False, multicast: bool = False) -> str:
    """Why an engine does not take a tensor; empty where it does. A tensor of fewer packs than ranks is taken."""
    if layout.nbytes % PACK:
        return f"{layout.nbytes} bytes are no multiple of {PACK}"
    if not weakly_contiguous(layout):
        return "its elements are not one stretch of memory"
    if layout.dtype not in limits.dtypes:
        return f"{layout.dtype} is none of {', '.join(limits.dtypes)}"
    if not limits.algorithm(layout.nbytes, graph=graph, multicast=multicast):
        return f"{layout.nbytes} bytes are more than {limits.most(graph=graph, multicast=multicast)}"
    return ""
