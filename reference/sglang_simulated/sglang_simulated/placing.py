"""Where tensors go that are placed on ``sim`` without an index: to the current device, as on any other device type.

torch completes such a device by a guard in C++, which for devices written in Python knows the first one only. So, once
another device is current, the functions of torch that ask that guard are told the index.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._C import _len_torch_function_stack
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

from sglang_simulated.runtime import runtime

# The others hand their device to our kernels as they were given it.
_ASK_THE_GUARD = frozenset({torch.Tensor.to, torch.Tensor.new_tensor, torch.tensor, torch.as_tensor, torch.asarray})


class _Indexed(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func in _ASK_THE_GUARD:
            args = tuple(_indexed(value) for value in args)
            kwargs = {name: _indexed(value) for name, value in (kwargs or {}).items()}
        return func(*args, **(kwargs or {}))


def make_current(index: int) -> None:
    """Make the device of that index this thread's current one."""
    thread = runtime().thread
    thread.device = index
    if index and not thread.indexed:
        thread.indexed = True
        _stay(_Indexed())


def _stay(mode: TorchFunctionMode) -> None:
    """Have a mode for the life of this thread: below all others, which are entered and left by turns.

    But torch's default device, where there is one, must be the lowest.
    """
    others = [_pop_mode() for _ in range(_len_torch_function_stack())]  # type: ignore[no-untyped-call]
    if others and others[-1] is getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None):
        _push_mode(others.pop())  # type: ignore[no-untyped-call]
    _push_mode(mode)  # type: ignore[no-untyped-call]
    for other in reversed(others):
        _push_mode(other)  # type: ignore[no-untyped-call]


def _indexed(value: Any) -> Any:
    if isinstance(value, str | torch.device) and str(value) == "sim":
        return torch.device("sim", runtime().current_device())
    return value
