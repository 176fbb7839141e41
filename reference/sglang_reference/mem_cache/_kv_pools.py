"""Pools of keys and values: what every pool has, and the pool of multi-head attention.

Facts: srt/mem_cache/memory_pool.py of SGLang 0.5.11, 0.5.14 to 0.5.17, 0.5.20 and 0.5.23.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterable
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .. import platforms
from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, Renamed, released
from ._placing import placed
from ._saving import MemorySaver
from ._write_loc import slots_of

logger = logging.getLogger("sglang.srt.mem_cache.memory_pool")

GIB = 1 << 30
_CHUNK = 8192
"""How many slots are copied to or from the host at once."""
_FLOAT8 = frozenset({torch.float8_e5m2, torch.float8_e4m3fn} | ({torch.float8_e4m3fnuz} if since("0.5.14") else set()))

LABELLED = Parameters({"allocation_label": Lifetime("0.5.17")})
COPIED = Parameters({"req_pool_index": Lifetime("0.5.20")})
WRITE = Parameters({"dcp_kv_mask": Lifetime("0.5.15")}, renamed={"loc_info": Renamed("loc", "0.5.14")})


def size_in_bytes(buffers: Iterable[torch.Tensor]) -> int:
    """What these buffers take, in bytes."""
    return sum(buffer.numel() * buffer.element_size() for buffer in buffers)


def copy_to_host(buffers: tuple[list[torch.Tensor], ...], indices: torch.Tensor) -> list[list[list[torch.Tensor]]]:
    """For each layer and each chunk of ``indices``, what each kind of buffer holds there."""
    _synchronize()
    copied = [
        [[buffer[chunk].to("cpu") for buffer in layer] for chunk in torch.split(indices, _CHUNK)]
        for layer in zip(*buffers, strict=True)
    ]
    _synchronize()
    return copied


def copy_from_host(
    buffers: tuple[list[torch.Tensor], ...], copied: list[list[list[torch.Tensor]]], indices: torch.Tensor
) -> None:
    """Put what :func:`copy_to_host` gave into other slots, as many as it was taken from."""
    _synchronize()
    for layer, chunks in zip(zip(*buffers, strict=True), copied, strict=True):
        for chunk, parts in zip(torch.split(indices, _CHUNK), chunks, strict=True):
            for buffer, part in zip(layer, parts, strict=True):
                assert len(part) == len(chunk), f"a copy of {len(part)} slots does not fit {len(chunk)}"
                buffer[chunk] = part.to(buffer.device)
    _synchronize()


def _synchronize() -> None:
    """Wait for the device, as the platform does; before 0.5.16 SGLang waits for CUDA's, here for none."""
    if since("0.5.16"):
        platforms.current_platform.synchronize()


@placed("memory_pool", get_kv_buffer_shape=Lifetime("0.5.15"))
class KVCache(Partial, abc.ABC):
    """What holds keys and values, layer by layer, in slots; slot 0, with its page, is where padding is written."""

    if since("0.5.16"):
        layer_shard_enabled = False
        post_capture_active = False

    @abc.abstractmethod
    @released(LABELLED)
    def __init__(
        self,
        size: int,
        page_size: int,
        dtype: torch.dtype,
        layer_num: int,
        device: str,
        enable_memory_saver: bool,
        start_layer: int | None = None,
        end_layer: int | None = None,
        allocation_label: str | None = None,
    ) -> None:
        self.size = size
        self.page_size = page_size
        self.dtype = dtype
        self.device = device
        # float8 is kept as bytes, since index_put does not know it.
        self.store_dtype = torch.uint8 if dtype in _FLOAT8 else dtype
        self.layer_num = layer_num
        self.start_layer = start_layer or 0
        self.end_layer = end_layer or layer_num - 1
        self.allocation_label = allocation_label
        self.memory_saver_adapter = MemorySaver(enable_memory_saver)
        self.mem_usage: float = 0
        self.cpu_offloading_chunk_size = _CHUNK
        self.layer_transfer_counter: Any = None
        self.enable_custom_mem_pool, self.custom_mem_pool = False, None

    def _finalize_allocation_log(self, num_tokens: int) -> None:
        """Say what was allocated, and keep it in GiB as ``mem_usage``."""
        sizes = self.get_kv_size_bytes()
        parts = dict(zip("KV", sizes, strict=True)) if isinstance(sizes, tuple) else {"KV": sizes}
        told = ", ".join(f"{name} size: {size / GIB:.2f} GB" for name, size in parts.items())
        logger.info("KV Cache is allocated. dtype: %s, #tokens: %d, %s", self.dtype, num_tokens, told)
        self.mem_usage = sum(parts.values()) / GIB

    def _wait_for(self, layer_id: int) -> None:
        if self.layer_transfer_counter is not None:
            self.layer_transfer_counter.wait_until(layer_id - self.start_layer)

    @abc.abstractmethod
    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        """The keys of a layer, numbered as in the whole model: slots, heads, dimensions."""

    @abc.abstractmethod
    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        """The values of a layer."""

    @abc.abstractmethod
    def get_kv_buffer(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and the values of a layer."""

    @abc.abstractmethod
    def set_kv_buffer(self, layer: Any, loc: torch.Tensor, cache_k: torch.Tensor, cache_v: torch.Tensor) -> None:
        """Write the layer's keys and values of some tokens into the slots ``loc``."""

    def get_kv_buffer_shape(self) -> tuple[torch.Size, torch.Size]:
        """The shapes of a layer's keys and values."""
        keys, values = self.get_kv_buffer(self.start_layer)
        return keys.shape, values.shape

    def register_layer_transfer_counter(self, layer_transfer_counter: Any) -> None:
        """Have reads of a layer wait until it has come from the host."""
        self.layer_transfer_counter = layer_transfer_counter

    @released(COPIED)
    def get_cpu_copy(self, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None) -> Any:
        """A copy on the host of what some slots hold; NotImplementedError where a pool has none."""
        raise NotImplementedError

    @released(COPIED)
    def load_cpu_copy(
        self, kv_cache_cpu: Any, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None
    ) -> None:
        """Put such a copy into other slots."""
        raise NotImplementedError

    def maybe_get_custom_mem_pool(self) -> Any:
        """The memory pool of torch's that the buffers lie in; None, since the reference has none."""
        return self.custom_mem_pool


@placed("memory_pool", get_v_head_dim=Lifetime("0.5.18"))
class MHATokenToKVPool(KVCache):
    """Keys and values apart, for each layer of this rank: ``size`` slots and a page of padding before them."""

    @released(
        Parameters(
            {
                "kv_cache_layout": Lifetime("0.5.15"),
                "quant_method": Lifetime("0.5.16"),
                "post_capture_active": Lifetime("0.5.16"),
                **LABELLED.lifetimes,
            }
        )
    )
    def __init__(
        self,
        size: int,
        page_size: int,
        dtype: torch.dtype,
        head_num: int,
        head_dim: int,
        layer_num: int,
        device: str,
        enable_memory_saver: bool,
        v_head_dim: int | None = None,
        swa_head_num: int | None = None,
        swa_head_dim: int | None = None,
        swa_v_head_dim: int | None = None,
        start_layer: int | None = None,
        end_layer: int | None = None,
        enable_alt_stream: bool = True,
        enable_kv_cache_copy: bool = False,
        kv_cache_layout: str | None = None,
        quant_method: Any = None,
        post_capture_active: bool = False,
        allocation_label: str | None = None,
    ) -> None:
        for name, value in (("kv_cache_layout", kv_cache_layout), ("quant_method", quant_method)):
            if value is not None:
                raise not_covered(f"{name} of MHATokenToKVPool")
        if post_capture_active:
            raise not_covered("post_capture_active of MHATokenToKVPool")
        label = {"allocation_label": allocation_label} if since("0.5.17") else {}
        super().__init__(
            size, page_size, dtype, layer_num, device, enable_memory_saver, start_layer, end_layer, **label
        )
        self.head_num = head_num if swa_head_num is None else swa_head_num
        self.head_dim = head_dim if swa_head_dim is None else swa_head_dim
        self.v_head_dim = next((dim for dim in (swa_v_head_dim, v_head_dim) if dim is not None), head_dim)
        self._create_buffers()
        self.device_module = torch.get_device_module(self.device)
        self.alt_stream = None
        self._finalize_allocation_log(size)
        self.row_dim = self.head_num * self.head_dim
        self.same_kv_dim = self.head_dim == self.v_head_dim

    def _create_buffers(self) -> None:
        with self.memory_saver_adapter.region("kv_cache"):
            self.k_buffer = self._buffers(self.head_dim)
            self.v_buffer = self._buffers(self.v_head_dim)

    def _buffers(self, width: int) -> list[torch.Tensor]:
        shape = (self.size + self.page_size, self.head_num, width)
        return [torch.zeros(shape, dtype=self.store_dtype, device=self.device) for _ in range(self.layer_num)]

    def _clear_buffers(self) -> None:
        del self.k_buffer, self.v_buffer

    def get_kv_size_bytes(self) -> tuple[int, int]:
        """What keys and values take, in bytes."""
        return size_in_bytes(self.k_buffer), size_in_bytes(self.v_buffer)

    def get_v_head_dim(self) -> int:
        """The width of a head's values."""
        return self.v_head_dim

    def _get_key_buffer(self, layer_id: int) -> torch.Tensor:
        return self._as_told(self.k_buffer[layer_id - self.start_layer])

    def _get_value_buffer(self, layer_id: int) -> torch.Tensor:
        return self._as_told(self.v_buffer[layer_id - self.start_layer])

    def _as_told(self, buffer: torch.Tensor) -> torch.Tensor:
        return buffer if self.store_dtype == self.dtype else buffer.view(self.dtype)

    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        """The keys of a layer."""
        self._wait_for(layer_id)
        return self._get_key_buffer(layer_id)

    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        """The values of a layer."""
        self._wait_for(layer_id)
        return self._get_value_buffer(layer_id)

    def get_kv_buffer(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and the values of a layer."""
        return self.get_key_buffer(layer_id), self.get_value_buffer(layer_id)

    @released(WRITE)
    def set_kv_buffer(
        self,
        layer: Any,
        loc_info: Any,
        cache_k: torch.Tensor,
        cache_v: torch.Tensor,
        k_scale: float | None = None,
        v_scale: float | None = None,
        layer_id_override: int | None = None,
        dcp_kv_mask: torch.Tensor | None = None,
    ) -> None:
        """Write the layer's keys and values of some tokens into their slots, in the pool's dtype."""
        if dcp_kv_mask is not None:
            raise not_covered("decode context parallelism")
        layer_id = layer.layer_id if layer_id_override is None else layer_id_override
        loc = slots_of(loc_info).full
        for buffers, cache, scale in ((self.k_buffer, cache_k, k_scale), (self.v_buffer, cache_v, v_scale)):
            if cache.dtype != self.dtype:
                cache = (cache if scale is None else cache / scale).to(self.dtype)
            if self.store_dtype != self.dtype:
                cache = cache.view(self.store_dtype)
            buffers[layer_id - self.start_layer][loc] = cache

    def move_kv_cache(self, tgt_loc: torch.Tensor, src_loc: torch.Tensor) -> None:
        """Copy what the slots ``src_loc`` hold into ``tgt_loc``, in every layer."""
        for buffer in (*self.k_buffer, *self.v_buffer):
            buffer[tgt_loc] = buffer[src_loc]

    @released(COPIED)
    def get_cpu_copy(self, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None) -> Any:
        """A copy on the host of what some slots hold: by layer, by chunk of slots, keys and values."""
        return copy_to_host((self.k_buffer, self.v_buffer), indices)

    @released(COPIED)
    def load_cpu_copy(
        self, kv_cache_cpu: Any, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None
    ) -> None:
        """Put such a copy into other slots."""
        copy_from_host((self.k_buffer, self.v_buffer), kv_cache_cpu, indices)
