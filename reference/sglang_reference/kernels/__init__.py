"""``sglang.kernels``: the operators' base class and where implementations come from (SGLang 0.5.23, kernels)."""

from __future__ import annotations

from .fused_op import BaseFusedOp, get_fused_op_backend, set_fused_op_backend
from .spec import KernelBackend

__all__ = ["BaseFusedOp", "KernelBackend", "get_fused_op_backend", "set_fused_op_backend"]
