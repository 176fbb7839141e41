"""``sglang.srt.layers.utils.multi_platform``: SGLang's first operator class, and the name that it has kept since.

Up to 0.5.17 an operator asks the platform for its dispatch key while it is constructed, each one anew; from 0.5.18 on
the class is an alias of ``sglang.kernels.fused_op.BaseFusedOp``, which warns those who subclass it.
Facts: SGLang 0.5.11, 0.5.17, 0.5.18 and 0.5.23, srt/layers/utils/multi_platform.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from ... import platforms
from ..._contract import since
from ._in_tree import in_tree_key

_UNIFIED = since("0.5.18")

if TYPE_CHECKING:
    _Base = nn.Module
elif _UNIFIED:
    from sglang.kernels.fused_op import BaseFusedOp as _Base
else:

    class _Base(nn.Module):
        _oot_forward_registry: ClassVar[dict[str, dict[type, Callable[..., Any]]]] = {}

        def __init__(self) -> None:
            super().__init__()
            self._forward_method = self.dispatch_forward()
            self._original_forward_method = None
            self.is_torch_compile = False

        @classmethod
        def register_oot_forward(cls, op_cls: type, fn: Callable[..., Any], platform_key: str) -> None:
            """Have instances of exactly ``op_cls`` run ``fn``, as a method, on the platform with that dispatch key."""
            cls._oot_forward_registry.setdefault(platform_key, {})[op_cls] = fn

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            """Run what the operator chose when it was made, or what can be compiled in the time for that."""
            return self._forward_method(*args, **kwargs)

        def enter_torch_compile(self, num_tokens: int) -> None:
            """Run what can be compiled from now on; a second call does nothing."""
            if self.is_torch_compile:
                return
            self._original_forward_method = self._forward_method
            self._forward_method = self._compiled_method(num_tokens) or self._forward_method
            self.is_torch_compile = True

        def _compiled_method(self, num_tokens: int) -> Callable[..., Any] | None:
            # For experts and their choice SGLang takes the native way of a single token alone.
            name = type(self).__name__
            if "FusedMoE" in name or "TopK" in name:
                if num_tokens != 1:
                    return None
                if "FusedMoE" in name:
                    from ..moe.fused_moe_native import fused_moe_forward_native

                    return fused_moe_forward_native
            return self.forward_native

        def leave_torch_compile(self) -> None:
            """Run what ran before :meth:`enter_torch_compile`; does nothing outside of it."""
            if not self.is_torch_compile:
                return
            self._forward_method = self._original_forward_method
            self._original_forward_method = None
            self.is_torch_compile = False

        def dispatch_forward(self) -> Callable[..., Any]:
            """What calls are to run: the platform's own, the native one, or a built-in device's."""
            platform = platforms.current_platform
            if platform.is_out_of_tree():
                key = platform.get_dispatch_key_name()
                registered = self._oot_forward_registry.get(key, {})
                if type(self) in registered:
                    return registered[type(self)].__get__(self)
                return getattr(self, f"forward_{key}", None) or self.forward_native
            return getattr(self, f"forward_{in_tree_key() or 'native'}")


class MultiPlatformOp(_Base):
    """An operator with a method for each device: ``forward_<key>``."""

    if _UNIFIED:

        def __init_subclass__(cls, **kwargs: Any) -> None:
            warnings.warn(
                "MultiPlatformOp is deprecated; subclass sglang.kernels.fused_op.BaseFusedOp",
                DeprecationWarning,
                stacklevel=2,
            )
            super().__init_subclass__(**kwargs)

    def forward_native(self, *args: Any, **kwargs: Any) -> Any:
        """The operator in plain torch."""
        raise NotImplementedError

    def forward_cuda(self, *args: Any, **kwargs: Any) -> Any:
        """The operator on CUDA."""
        raise NotImplementedError

    def forward_hip(self, *args: Any, **kwargs: Any) -> Any:
        """The operator on ROCm: CUDA's."""
        return self.forward_cuda(*args, **kwargs)

    def forward_musa(self, *args: Any, **kwargs: Any) -> Any:
        """The operator on MUSA: CUDA's."""
        return self.forward_cuda(*args, **kwargs)

    def forward_npu(self, *args: Any, **kwargs: Any) -> Any:
        """The operator on NPUs: the native one."""
        return self.forward_native(*args, **kwargs)

    def forward_xpu(self, *args: Any, **kwargs: Any) -> Any:
        """The operator on XPUs: the native one."""
        return self.forward_native(*args, **kwargs)

    def forward_hpu(self, *args: Any, **kwargs: Any) -> Any:
        """The operator on HPUs: the native one."""
        return self.forward_native(*args, **kwargs)

    def forward_cpu(self, *args: Any, **kwargs: Any) -> Any:
        """The operator on CPUs: the native one."""
        return self.forward_native(*args, **kwargs)
