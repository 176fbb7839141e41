"""``sglang.kernels.fused_op``: one operator, several implementations, and which of them a call runs.

On an out-of-tree platform an operator runs, in this order: what the plugin registered for its exact class and the
platform's dispatch key; its ``forward_<key>``; ``forward_native``. The platform is asked for the key at the first call
of any operator, once in a process. Facts: SGLang 0.5.18, 0.5.20 and 0.5.23, kernels/fused_op.py; what 0.5.16 and 0.5.17
have under this name, and make no operator of their layers of yet, is in :mod:`._unattached`.
"""

from __future__ import annotations

import functools
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from .spec import KernelBackend

if TYPE_CHECKING:
    from sglang_reference import platforms
    from sglang_reference._contract import since
    from sglang_reference._errors import not_covered
    from sglang_reference._released import Lifetime, withdraw
else:
    from sglang.srt import platforms
    from sglang.srt._contract import since
    from sglang.srt._released import Lifetime, withdraw

    from sglang_reference._errors import not_covered

logger = logging.getLogger(__name__)

BACKEND_METHODS: Mapping[KernelBackend, str] = {
    backend: "forward_native" if backend is KernelBackend.TORCH else f"forward_{backend.value.lower()}"
    for backend in KernelBackend
}
# What each built-in device runs, best first. Only ROCm falls back to CUDA's.
_IN_TREE_METHODS: Mapping[str, tuple[str, ...]] = {"hip": ("forward_hip", "forward_cuda")}
_ALWAYS = (KernelBackend.TORCH, KernelBackend.TORCH_COMPILE)
_UNREAD: Any = object()
_forced_backend: Any = _UNREAD
_warned: set[tuple[type, KernelBackend]] = set()


@functools.lru_cache(maxsize=1)
def _platform_key() -> str:
    from sglang.srt.layers.utils import _in_tree

    key: str = _in_tree.in_tree_key()
    return key


@functools.lru_cache(maxsize=1)
def _oot_dispatch_key() -> str | None:
    platform: Any = platforms.current_platform
    if not platform.is_out_of_tree():
        return None
    key: str = platform.get_dispatch_key_name()
    return key


def clear_platform_caches() -> None:
    """Ask the platform for its key again at the next first call of an operator."""
    _platform_key.cache_clear()
    _oot_dispatch_key.cache_clear()


def get_fused_op_backend() -> KernelBackend | None:
    """The implementation that every operator is to run, or None; ``SGLANG_FORCE_FUSED_OP_BACKEND`` is read once.

    Raises ValueError where the variable names none.
    """
    global _forced_backend
    if _forced_backend is _UNREAD:
        named = os.environ.get("SGLANG_FORCE_FUSED_OP_BACKEND")
        _forced_backend = None if named is None else KernelBackend(named)
    found: KernelBackend | None = _forced_backend
    return found


def set_fused_op_backend(backend: KernelBackend | None) -> None:
    """Have every operator run ``backend`` where it has it; None lets each choose again."""
    global _forced_backend
    _forced_backend = backend


class BaseFusedOp(nn.Module, ABC):
    """An operator: ``forward_native`` in plain torch, and other implementations as further ``forward_…`` methods.

    A subclass that names an implementation in ``capabilities`` takes part in a choice by device that SGLang makes on
    its built-in platforms only; that is not covered.
    """

    op: ClassVar[str] = ""
    capabilities: ClassVar[Mapping[KernelBackend, Set[Any]]] = {}
    _oot_forward_registry: ClassVar[dict[str, dict[type, Callable[..., Any]]]] = {}

    @classmethod
    def register_oot_forward(cls, op_cls: type, fn: Callable[..., Any], platform_key: str) -> None:
        """Have instances of exactly ``op_cls`` run ``fn``, as a method, on the platform with that dispatch key."""
        cls._oot_forward_registry.setdefault(platform_key, {})[op_cls] = fn

    def __init__(self) -> None:
        super().__init__()
        self._forward_method: Callable[..., Any] | None = None
        self._original_forward_method: Callable[..., Any] | None = None
        self.is_torch_compile = False
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
        """The implementations that this operator has, whatever device there is."""
        return [each for each in KernelBackend if each in _ALWAYS or self._defined_method(BACKEND_METHODS[each])]

    def _defined_method(self, name: str) -> Callable[..., Any] | None:
        """The bound method, where a class below this one defines it."""
        for kind in type(self).__mro__:
            if kind is BaseFusedOp:
                return None
            if name in vars(kind):
                found: Callable[..., Any] = getattr(self, name)
                return found
        return None

    def _platform_method(self, platform_key: str) -> Callable[..., Any] | None:
        if not platform_key:
            return None
        names = _IN_TREE_METHODS.get(platform_key, (f"forward_{platform_key}",))
        return next((method for name in names if (method := self._defined_method(name)) is not None), None)

    def _resolve_forward_method(self) -> Callable[..., Any]:
        key = _oot_dispatch_key()
        if key is not None:
            registered = self._oot_forward_registry.get(key, {}).get(type(self))
            if registered is not None:
                bound: Callable[..., Any] = registered.__get__(self)
                return bound
            return self._platform_method(key) or self.forward_native
        if any(self._defined_method(BACKEND_METHODS[each]) for each in self.capabilities if each not in _ALWAYS):
            raise not_covered(f"the choice by device of {type(self).__name__}.capabilities")
        return self._platform_method(_platform_key()) or self.forward_native

    def dispatch_forward(self) -> Callable[..., Any]:
        """What a call runs on this platform."""
        return self._resolve_forward_method()

    def _torch_compile_forward(self, num_tokens: int) -> Callable[..., Any] | None:
        """What to run while the model is compiled; None leaves what runs already."""
        return self.forward_native

    def enter_torch_compile(self, num_tokens: int) -> None:
        """Run what can be compiled from now on; a second call does nothing."""
        if self.is_torch_compile:
            return
        get_fused_op_backend()
        self._original_forward_method = self._forward_method
        compiled = self._torch_compile_forward(num_tokens=num_tokens)
        if compiled is not None:
            self._forward_method = compiled
        elif self._forward_method is None:
            self._forward_method = self._resolve_forward_method()
        self.is_torch_compile = True

    def leave_torch_compile(self) -> None:
        """Run what ran before :meth:`enter_torch_compile`; does nothing outside of it."""
        if not self.is_torch_compile:
            return
        self._forward_method = self._original_forward_method
        self._original_forward_method = None
        self.is_torch_compile = False

    def _run_backend(self, backend: KernelBackend, *args: Any, **kwargs: Any) -> Any:
        method = getattr(self, BACKEND_METHODS[backend], None)
        if method is None:
            raise NotImplementedError(f"{self.op or type(self).__name__} has no implementation {backend.value}")
        return method(*args, **kwargs)

    def forward(self, *args: Any, backend: KernelBackend | None = None, **kwargs: Any) -> Any:
        """Run the operator: as ``backend`` says, or the process's forced implementation, or this platform's own.

        Raises NotImplementedError where the operator has no ``backend``; a forced one that it lacks is warned of once.
        """
        if backend is not None:
            return self._run_backend(backend, *args, **kwargs)
        forced = get_fused_op_backend()
        if forced is not None:
            try:
                return self._run_backend(forced, *args, **kwargs)
            except NotImplementedError:
                if (type(self), forced) not in _warned:
                    _warned.add((type(self), forced))
                    logger.warning("%s has no implementation %s; its own runs", type(self).__name__, forced.value)
        if self._forward_method is None:
            self._forward_method = self._resolve_forward_method()
        return self._forward_method(*args, **kwargs)


_ABSENT = withdraw(globals(), {"clear_platform_caches": Lifetime("0.5.18", "0.5.23")})
if since("0.5.23"):
    del BaseFusedOp.dispatch_forward
if not since("0.5.18"):
    from . import _unattached

    BACKEND_METHODS = _unattached.METHODS
    BaseFusedOp = _unattached.BaseFusedOp  # type: ignore[assignment, misc]
    BaseFusedOp.__module__ = __name__
