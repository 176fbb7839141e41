"""One rank's engine: what may be asked of it, and what it does where something goes wrong."""

from __future__ import annotations

import ctypes
import math
import os
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch

from sglang_host_memory import MachineError, join

from . import reduction
from .arithmetic import arithmetic_of
from .calls import Call, told, what
from .reduction import Plan
from .regions import Regions
from .troubles import MismatchError, UnusableError

_MOST_PLANS = 256


class Engine:
    """A rank's part in the sums of all ranks that have met at a name.

    Every call is one of all ranks, in the same order on each. Where the calls do not belong together, or a rank does
    not come, has ended or has left, each rank that is there is told by an exception, and the engine takes no more.
    """

    def __init__(self, name: str, rank: int, size: int, seconds: float | None = None) -> None:
        """Meet the others at a name; raises what :func:`sglang_host_memory.join` raises.

        ``seconds`` bounds this wait and each later one.
        """
        self.rank = rank
        self.size = size
        self._segment = join(f"all-reduce-{name}", rank, reduction.layout(size), seconds)
        self._regions = Regions(self._segment)
        self._plans: dict[tuple[torch.dtype, int, tuple[int, ...]], Plan] = {}
        self._obstacle = ""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._leave = weakref.finalize(self, self._segment.close)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def all_reduce(self, tensor: torch.Tensor, out: torch.Tensor) -> None:
        """Write the sum of ``tensor`` over all ranks to ``out``, which may be the same tensor.

        Both are of one type and as many elements, in host memory without gaps, and laid out alike: contiguous, or in
        one shape with the same strides. Raises TypeError or ValueError on the rank that asks for what cannot be, which
        leaves the engine as it was; MismatchError where the ranks' calls differ, AbsentError for a rank that does not
        come, UnusableError where the engine cannot be used.
        """
        strides = () if tensor.is_contiguous() and out.is_contiguous() else _strides(tensor, out)
        plan = self._plans.get((tensor.dtype, tensor.numel(), strides)) or self._plan(tensor, strides)
        if out.dtype != tensor.dtype or out.numel() != plan.count or not (tensor.is_cpu and out.is_cpu):
            raise _unlike(tensor, out)
        source, target = tensor.data_ptr(), out.data_ptr()
        if source != target and -plan.length < target - source < plan.length:
            raise ValueError("out lies partly where tensor does: it must be the same memory, or other memory")
        self._enter()
        try:
            if self.size == 1:
                ctypes.memmove(target, source, plan.length)
            elif plan.tiles:
                reduction.in_two_shots(self._segment, self._regions, plan, source, target, self._agree)
            else:
                reduction.in_one_shot(self._segment, plan, source, target, self._agree)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._lock.release()

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """A new tensor in memory that all ranks see, all zero: its sums need no copy first.

        All ranks make this call together, with as many elements of one type. An all_reduce of it, or of a part of it,
        that all ranks make of such a tensor of one call ends once all of them have read it. The memory lives as long
        as a tensor in it, also when the engine is closed. Raises as :meth:`all_reduce` does, and MachineError on all
        ranks where one has no such memory, which leaves the engine as it was.
        """
        count, width = math.prod(shape), arithmetic_of(dtype).width
        if any(length < 0 for length in shape):
            raise ValueError(f"a tensor cannot have the shape {tuple(shape)}")
        self._enter()
        try:
            memory = self._regions.make(
                max(1, count * width),
                lambda said: self._together(Call.EMPTY, dtype, count, said),
                lambda said: self._together(Call.SHARED, dtype, count, said),
            )
        except MachineError:
            raise
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._lock.release()
        elements = np.frombuffer(memory, dtype=np.uint8, count=count * width)
        return torch.from_numpy(elements).view(dtype).reshape(tuple(shape))

    def close(self) -> None:
        """Leave the others, and let go of the memory; a call of another thread ends with an exception."""
        if self._process == os.getpid():
            self._segment.stop("the engine was closed")
            with self._lock:
                self._obstacle = self._obstacle or "it is closed"
                self._plans.clear()
                self._leave()
        else:
            self._leave()

    def _enter(self) -> None:
        """Take the lock, where this engine can be used."""
        if not self._lock.acquire(False):
            raise UnusableError("another thread is in a call of this engine: its calls must come one after the other")
        if self._obstacle or self._process != os.getpid():
            self._lock.release()
            fork = f"it belongs to process {self._process}, of which this is a fork"
            raise UnusableError(f"this engine takes no calls: {self._obstacle or fork}")

    def _fail(self, error: BaseException) -> None:
        self._obstacle = f"an earlier one has failed ({error or type(error).__name__})"
        self._segment.fail()

    def _together(self, call: Call, dtype: torch.dtype, count: int, beside: int) -> None:
        self._segment.begin()
        self._agree(what(call, dtype), count, beside)
        self._segment.await_others(self._segment.step)

    def _agree(self, number: int, count: int, beside: int) -> None:
        other = self._segment.agree(number, count, beside)
        if other is not None:
            own, theirs = told(number, count), told(*self._segment.said_by(other)[:2])
            raise MismatchError(f"rank {self.rank} calls {own}, but rank {other} calls {theirs}")

    def _plan(self, tensor: torch.Tensor, strides: tuple[int, ...]) -> Plan:
        arithmetic, count = arithmetic_of(tensor.dtype), tensor.numel()
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plan = Plan(self._segment, arithmetic, count, what(Call.ALL_REDUCE, tensor.dtype, strides))
        self._plans[tensor.dtype, count, strides] = plan
        return plan


def _strides(tensor: torch.Tensor, out: torch.Tensor) -> tuple[int, ...]:
    """Those of two tensors that are laid out alike, without gaps, but not contiguous."""
    if tensor.shape != out.shape or tensor.stride() != out.stride():
        raise ValueError(
            f"tensor (shape {tuple(tensor.shape)}, strides {tensor.stride()}) and out (shape {tuple(out.shape)}, "
            f"strides {out.stride()}) are not both contiguous, and not laid out alike"
        )
    strides = tensor.stride()
    if torch.empty_like(tensor, device="meta").stride() != strides:  # which keeps them where there are no gaps
        raise ValueError(f"tensor has gaps or overlaps itself: shape {tuple(tensor.shape)}, strides {strides}")
    return strides


def _unlike(tensor: torch.Tensor, out: torch.Tensor) -> Exception:
    if tensor.dtype != out.dtype:
        return TypeError(f"tensor is of {tensor.dtype}, out of {out.dtype}")
    if tensor.numel() != out.numel():
        return ValueError(f"tensor has {tensor.numel()} elements, out {out.numel()}")
    return ValueError(f"tensor is on {tensor.device}, out on {out.device}, and not both in host memory")
