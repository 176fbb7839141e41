"""The operator class of 0.5.16 and 0.5.17: implementations behind one call, and nothing of platforms or modules yet.

Facts: SGLang 0.5.16 and 0.5.17, kernels/fused_op.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from sglang_reference._errors import not_covered

from .spec import KernelBackend

if TYPE_CHECKING:
    from . import fused_op
else:
    from sglang.kernels import fused_op

METHODS: Mapping[KernelBackend, str] = {
    **{backend: f"forward_{backend.value}" for backend in KernelBackend},
    KernelBackend.TORCH: "forward_native",
    KernelBackend.TORCH_NPU: "forward_npu",
}
_PRIORITY = ("aot", "jit", "flashinfer", "deepgemm", "cute_dsl", "aiter", "torch_npu", "triton", "torch")


class BaseFusedOp(ABC):
    """An operator that a plugin may write; none of SGLang's own layers is made of it."""

    op: ClassVar[str]
    priority: ClassVar[tuple[KernelBackend, ...]] = tuple(KernelBackend(name) for name in _PRIORITY)
    capabilities: ClassVar[Mapping[KernelBackend, Set[Any]]] = {}

    def __init__(self) -> None:
        if self.capabilities:
            raise not_covered(f"the choice by device of {type(self).__name__}.capabilities")
        self._compiled_native: Callable[..., Any] | None = None

    @abstractmethod
    def forward_native(self, *args: Any, **kwargs: Any) -> Any:
        """The operator in plain torch."""

    def forward_torch_compile(self, *args: Any, **kwargs: Any) -> Any:
        """:meth:`forward_native`, compiled at the first call."""
        if self._compiled_native is None:
            self._compiled_native = torch.compile(self.forward_native)
        return self._compiled_native(*args, **kwargs)

    def available_backends(self) -> list[KernelBackend]:
        """The implementations that this operator has."""
        return [backend for backend in KernelBackend if hasattr(self, METHODS[backend])]

    def backend_eligible(self, backend: KernelBackend, *args: Any, **kwargs: Any) -> bool:
        """Whether an implementation may run a call; a subclass may say no."""
        return True

    def forward(self, *args: Any, backend: KernelBackend | None = None, **kwargs: Any) -> Any:
        """Run the operator: as ``backend`` says, or the process's forced implementation, or the first that may run.

        Raises NotImplementedError where the operator has no such implementation.
        """
        chosen = backend or fused_op.get_fused_op_backend() or self._first(*args, **kwargs)
        method = getattr(self, METHODS[chosen], None)
        if method is None:
            raise NotImplementedError(f"{type(self).__name__} has no implementation {chosen.value}")
        return method(*args, **kwargs)

    def _first(self, *args: Any, **kwargs: Any) -> KernelBackend:
        there = self.available_backends()
        may_run = (each for each in self.priority if each in there and self.backend_eligible(each, *args, **kwargs))
        return next(may_run, KernelBackend.TORCH)

    __call__ = forward
