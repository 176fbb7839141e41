"""What the reference's own operators are made of: the table's operator class, with the native method on any device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ..._contract import since
from ..._partial import refuse

if TYPE_CHECKING:
    from sglang_reference.kernels.fused_op import BaseFusedOp as Operator
elif since("0.5.18"):
    from sglang.kernels.fused_op import BaseFusedOp as Operator
else:
    from .multi_platform import MultiPlatformOp as Operator


class PartialModule(nn.Module):
    """A module of torch of which SGLang's own holds more: what is not here is refused."""

    def __getattr__(self, name: str) -> Any:
        """A parameter, buffer or part; NotCovered for another public name."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            refuse(self, name)


class NativeOperator(Operator, PartialModule):
    """An operator that runs plain torch on SGLang's built-in devices too, where SGLang has kernels of its own."""

    def forward_cuda(self, *args: Any, **kwargs: Any) -> Any:
        """The native method, here."""
        return self.forward_native(*args, **kwargs)

    forward_hip = forward_musa = forward_npu = forward_xpu = forward_cpu = forward_cuda
