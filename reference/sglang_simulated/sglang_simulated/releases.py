"""Where SGLang's releases differ: the one place in this plugin that looks at which one is running.

The contract changed at 0.5.22. Until then a platform declared its abilities by methods and named its KV pools by one
method each; since then it declares a ``PlatformCapabilities`` and has ``get_kv_pool_cls(kind=...)``. Each release gets
only the names it reads: SGLang 0.5.22 and later warn about the old ones, and never read the old flags. Everything
else in this plugin is the same for all releases from 0.5.11 on.
"""
# SGLang is whatever host runs the plugin, and absent where it is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import functools
from typing import Any

import torch

from sglang_simulated import attention
from sglang_simulated.hardware import has_library
from sglang_simulated.paging import paged_allocator

try:
    from sglang.srt.platforms.interface import PlatformCapabilities
except ImportError:  # before 0.5.22
    PlatformCapabilities = None


def _capabilities() -> Any:
    """What the platform can do, in the words of this release."""
    if PlatformCapabilities is None:
        return None
    declared: dict[str, bool] = {"graph_capture": True}
    if hasattr(PlatformCapabilities, "supports_pynccl"):  # since 0.5.23
        declared["supports_pynccl"] = has_library()
    return PlatformCapabilities(**declared)


class _DeclaresCapabilities:
    """For SGLang 0.5.22 and later."""

    # Only what is true: SGLang picks its code paths from this and does not ask again. No Triton kernels.
    capabilities: Any = _capabilities()

    def attention_for(self, server_args: Any) -> str:
        """Our own attention, which graphs can hold."""
        return attention.NAME

    def get_kv_pool_cls(self, *, kind: str) -> type | None:
        """None: SGLang's own pools allocate on the device they are given, which is right for any torch device."""
        return None

    def get_paged_allocator_cls(self) -> type | None:
        """None: SGLang's own allocator, which does without Triton where the capabilities say so."""
        return None


class _AnswersFlags:
    """For SGLang 0.5.11 to 0.5.21, where the base class's factories raise instead of meaning "SGLang's own".

    So classes of SGLang's are named here, imported only when asked for: those modules load much of the server.
    """

    def attention_for(self, server_args: Any) -> str:
        """SGLang's own in torch, where nothing is to be captured: SGLang captures no graph with it, and starts Triton's
        kernels beside any other (``support_triton``, ``get_last_loc``).
        """
        return "torch_native" if getattr(server_args, "disable_cuda_graph", False) else attention.NAME

    def support_cuda_graph(self) -> bool:
        """Whether graphs can be captured, whatever the device: SGLang then asks for the graph runner."""
        return True

    def support_piecewise_cuda_graph(self) -> bool:
        """Whether prefill can be captured in pieces; not here."""
        return False

    def supports_fp8(self) -> bool:
        """Whether there are FP8 kernels; not here."""
        return False

    def get_mha_kv_pool_cls(self) -> type:
        """SGLang's pool for multi-head attention."""
        return _memory_pool("MHATokenToKVPool")

    def get_mla_kv_pool_cls(self) -> type:
        """SGLang's pool for multi-head latent attention, which takes what SGLang hands a platform's."""
        return _latent_pool()

    def get_nsa_kv_pool_cls(self) -> type:
        """SGLang's pool for sparse attention, as 0.5.11 and 0.5.12 call it."""
        return _memory_pool("NSATokenToKVPool")

    def get_dsa_kv_pool_cls(self) -> type:
        """The same pool, as SGLang calls it from 0.5.13 on."""
        return _memory_pool("DSATokenToKVPool")

    def get_paged_allocator_cls(self) -> type:
        """SGLang's allocator of pages, without Triton."""
        return paged_allocator()


@functools.cache
def _latent_pool() -> type:
    """SGLang's latent pool, but for an argument that SGLang hands platforms alone and its own class does not know, and
    for Triton's kernel that writes keys in parts.
    """
    base: Any = _memory_pool("MLATokenToKVPool")

    class SimMLATokenToKVPool(base):  # type: ignore[misc]
        """Has no index: ``index_head_dim`` is None but for sparse attention, which has a pool of its own."""

        def __init__(self, *args: Any, index_head_dim: int | None = None, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

        def set_mla_kv_buffer(self, layer: Any, loc: Any, cache_k_nope: Any, cache_k_rope: Any) -> None:
            """Write the latent and the rotary part of keys, side by side."""
            self.set_kv_buffer(layer, loc, torch.cat((cache_k_nope, cache_k_rope), dim=-1), cache_k_nope)

    return SimMLATokenToKVPool


def admit(device_type: str) -> None:
    """Let SGLang load models onto the device: up to 0.5.12 it does so on those of a list alone."""
    try:
        from sglang.srt.configs.device_config import SUPPORTED_DEVICES
    except Exception:  # its models are not here, or cannot be imported
        return
    if device_type not in SUPPORTED_DEVICES:
        SUPPORTED_DEVICES.append(device_type)


def _memory_pool(name: str) -> type:
    from sglang.srt.mem_cache import memory_pool

    pool: type = getattr(memory_pool, name)
    return pool


ReleaseHooks: Any = _AnswersFlags if PlatformCapabilities is None else _DeclaresCapabilities
