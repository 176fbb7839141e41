"""``sglang.kernels.spec``: where an operator's implementation may come from (SGLang 0.5.18 to 0.5.23)."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglang_reference._contract import since
else:
    from sglang.srt._contract import since


class KernelBackend(str, Enum):
    """How an implementation is made, whatever device it is for."""

    TORCH = "torch"
    TORCH_COMPILE = "torch_compile"
    TRITON = "triton"
    JIT = "jit"
    AOT = "aot"
    CUTE_DSL = "cute_dsl"
    if since("0.5.19"):
        FLYDSL = "flydsl"
    if since("0.5.23"):
        HELION = "helion"
    if since("0.5.20"):
        KDA = "KDA"
    if since("0.5.23"):
        CAKE = "cake"
        PLUGIN = "plugin"
    FLASHINFER = "flashinfer"
    DEEPGEMM = "deepgemm"
    AITER = "aiter"
    TORCH_NPU = "torch_npu"
