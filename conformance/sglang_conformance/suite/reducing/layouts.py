"""Which tensors SGLang's first generation takes, by its own method, in all their forms.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from ...oracles import all_reduce as oracle
from .. import expect
from . import choices
from .machines import Stand
from .worlds import linked

_UTILS = f"{choices.UTILS.rpartition('.')[2]}.is_weak_contiguous"
_TAKES = "CustomAllreduce.should_custom_ar"
_WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}


def settled(check: Callable[[], None], *, hooked: bool = True) -> None:
    """Run one of the checks below on an imagined machine; what breaks the rule there does here."""

    def run(stand: Stand) -> None:
        choices.answers(stand, linked(2, second=False))
        check()

    choices.on_imagined_machines(run, hooked=hooked)


def bytes_taken() -> None:
    """Whole packs up to the maximum, to the byte; also where they are fewer than the ranks."""
    for size, linked_too in ((2, False), (2, True), (4, True), (6, True), (8, True)):
        for most in (oracle.FIRST_MOST["cuda"], 4096):
            for nbytes in sorted(_sizes(most)):
                for dtype, width in _WIDTH.items():
                    if nbytes % width == 0:
                        right = nbytes % oracle.PACK == 0 and nbytes <= most
                        words = f"{nbytes} bytes of {dtype}"
                        _judge(_flat(nbytes // width, dtype), right, words, size, linked_too, most)
    _judge(_flat(64, "float32"), False, "256 bytes of float32", 4, False, 4096)


def layouts_taken() -> None:
    """Contiguous ones, and dense ones that end with their storage; none with gaps."""
    for words, tensor, right in _forms():
        _judge_form(words, tensor, right)


def overlaps_refused() -> None:
    """Elements that share memory, or are repeated, though they are as many as the storage holds."""
    import torch

    for words, tensor in (
        ("windows of 8 every 4 over 32 elements", torch.empty(32).as_strided((4, 8), (4, 1))),
        ("4 by 4 elements along a diagonal of 16", torch.empty(16).as_strided((4, 4), (1, 1))),
        ("16 elements, of which 4 are read four times", torch.empty(16).as_strided((4, 4), (0, 1))),
    ):
        _judge_form(words, tensor, False)


def types_refused() -> None:
    """The kernels have three types; what is taken in another raises in them, where the next engine would do."""
    for dtype in ("float64", "int8", "int32", "int64", "bool", "complex64", "float8_e4m3fn"):
        _judge(_flat(256, dtype), False, f"256 elements of {dtype}", 2, True, 1 << 20)
    for dtype in oracle.DTYPES:
        _judge(_flat(256, dtype), True, f"256 elements of {dtype}", 2, True, 1 << 20)


def _sizes(most: int) -> set[int]:
    near = {at + by for at in (most // 2, most) for by in (-32, -16, -8, -4, -2, 0, 2, 4, 8, 16, 32)}
    return near | {2, 4, 8, 12, 14, 16, 18, 20, 24, 30, 32, 48, 112, 128, 1000, 1008} | {4 * most}


def _flat(count: int, dtype: str) -> Any:
    import torch

    return torch.empty(count, dtype=getattr(torch, dtype), device="meta")


def _forms() -> Iterator[tuple[str, Any, bool]]:
    import torch

    base = torch.empty(8, 8, 8)
    yield "contiguous", base, True
    yield "the last rows", base[5:], True
    yield "rows from the middle", base[2:5], True
    yield "permuted", base.permute(2, 0, 1), True
    yield "the last rows, permuted", base[4:].permute(1, 2, 0), True
    yield "channels last", torch.empty(2, 4, 4, 4).to(memory_format=torch.channels_last), True
    yield "one row with a stride that is never taken", torch.empty(64).as_strided((1, 16), (999, 1)), True
    yield "columns", base[:, :, :4], False
    yield "every other row", base[::2], False
    yield "the last columns", base[:, :, 4:], False
    yield "an inner block, permuted", base[2:6, 2:6, 2:6].permute(2, 0, 1), False
    yield "one row repeated", torch.empty(1, 16).expand(8, 16), False


def _judge(tensor: Any, right: bool, words: str, size: int, linked_too: bool, most: int) -> None:
    kind = importlib.import_module(choices.CHOICE).CustomAllreduce
    call = f"{_TAKES}({words}) of {size} {'linked' if linked_too else 'unlinked'} ranks, of {most} bytes at most"
    taken = expect.attempt(call, lambda: choices.takes(kind, tensor, size, linked_too, most)).value
    expect.equal(taken, right, call=call)


def _judge_form(words: str, tensor: Any, right: bool) -> None:
    utils = importlib.import_module(choices.UTILS)
    call = f"{_UTILS}({words}: sizes {tuple(tensor.shape)}, strides {tensor.stride()}, from {tensor.storage_offset()})"
    expect.equal(bool(expect.attempt(call, lambda: utils.is_weak_contiguous(tensor)).value), right, call=call)
    _judge(tensor, right, words, 2, True, 1 << 20)
