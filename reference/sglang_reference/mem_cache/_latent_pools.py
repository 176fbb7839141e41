"""Pools of latent attention: one buffer a layer, and beside it the index keys of sparse attention.

Facts: srt/mem_cache/memory_pool.py of SGLang 0.5.11, 0.5.12, 0.5.13, 0.5.18, 0.5.20 and 0.5.23.
"""

from __future__ import annotations

from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._contract import since
from .._released import Lifetime, Parameters, Renamed, released
from ._kv_pools import COPIED, KVCache, copy_from_host, copy_to_host, size_in_bytes
from ._placing import placed
from ._write_loc import slots_of

_MOVED = Lifetime("0.5.13")
_OVERRIDE = {"layer_id_override": Lifetime("0.5.19")}
_REPLICATED = {"dcp_replicated": Lifetime("0.5.22")}


@placed("memory_pool", move_kv_cache=_MOVED)
class MLATokenToKVPool(KVCache):
    """Latent and rotary part of the keys side by side, one head; the values are the latent part."""

    @released(Parameters(_REPLICATED, renamed={"use_dsa": Renamed("use_nsa", "0.5.13")}))
    def __init__(
        self,
        size: int,
        page_size: int,
        dtype: torch.dtype,
        kv_lora_rank: int,
        qk_rope_head_dim: int,
        layer_num: int,
        device: str,
        enable_memory_saver: bool,
        start_layer: int | None = None,
        end_layer: int | None = None,
        use_dsa: bool = False,
        override_kv_cache_dim: int | None = None,
        dcp_replicated: bool = False,
    ) -> None:
        if dcp_replicated:
            raise not_covered("decode context parallelism")
        if use_dsa and dtype == torch.float8_e4m3fn and override_kv_cache_dim is not None:
            raise not_covered("a pool of sparse attention in float8")
        super().__init__(size, page_size, dtype, layer_num, device, enable_memory_saver, start_layer, end_layer)
        self.kv_lora_rank = kv_lora_rank
        self.qk_rope_head_dim = qk_rope_head_dim
        setattr(self, "use_dsa" if since("0.5.13") else "use_nsa", use_dsa)
        self.kv_cache_dim = kv_lora_rank + qk_rope_head_dim
        self._create_buffers()
        if not use_dsa:  # sparse attention tells its size when it has its index keys too
            self._finalize_allocation_log(size)

    def _create_buffers(self) -> None:
        shape = (self.size + self.page_size, 1, self.kv_cache_dim)
        with self.memory_saver_adapter.region("kv_cache"):
            self.kv_buffer = [
                torch.zeros(shape, dtype=self.store_dtype, device=self.device) for _ in range(self.layer_num)
            ]

    def _clear_buffers(self) -> None:
        del self.kv_buffer

    def get_kv_size_bytes(self) -> int:
        """What the layers take, in bytes."""
        return size_in_bytes(self.kv_buffer)

    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        """The keys of a layer: latent part, then rotary part."""
        self._wait_for(layer_id)
        buffer = self.kv_buffer[layer_id - self.start_layer]
        return buffer if self.store_dtype == self.dtype else buffer.view(self.dtype)

    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        """The values of a layer: the latent part of the keys, in the same memory."""
        return self.get_key_buffer(layer_id)[..., : self.kv_lora_rank]

    def get_kv_buffer(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and the values of a layer."""
        return self.get_key_buffer(layer_id), self.get_value_buffer(layer_id)

    @released(Parameters(_OVERRIDE, renamed={"loc_info": Renamed("loc", "0.5.14")}))
    def set_kv_buffer(
        self,
        layer: Any,
        loc_info: Any,
        cache_k: torch.Tensor,
        cache_v: torch.Tensor,
        layer_id_override: int | None = None,
    ) -> None:
        """Write the layer's whole keys of some tokens into their slots; ``cache_v`` is part of them."""
        self._write(layer, loc_info, cache_k, layer_id_override)

    @released(Parameters(_OVERRIDE, renamed={"loc_info": Renamed("loc", "0.5.22")}))
    def set_mla_kv_buffer(
        self,
        layer: Any,
        loc_info: Any,
        cache_k_nope: torch.Tensor,
        cache_k_rope: torch.Tensor,
        layer_id_override: int | None = None,
    ) -> None:
        """Write the latent and the rotary part of the layer's keys of some tokens into their slots."""
        self._write(layer, loc_info, torch.cat((cache_k_nope, cache_k_rope), dim=-1), layer_id_override)

    def _write(self, layer: Any, loc_info: Any, cache: torch.Tensor, layer_id_override: int | None) -> None:
        layer_id = layer.layer_id if layer_id_override is None else layer_id_override
        cache = cache.to(self.dtype)
        if self.store_dtype != self.dtype:
            cache = cache.view(self.store_dtype)
        buffer = self.kv_buffer[layer_id - self.start_layer]
        buffer[slots_of(loc_info).full] = cache.reshape(-1, *buffer.shape[1:])

    def get_mla_kv_buffer(
        self, layer: Any, loc: torch.Tensor, dst_dtype: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What some slots of the layer hold: the latent and the rotary part, in ``dst_dtype`` where it is given."""
        rows = self.get_key_buffer(layer.layer_id)[loc].to(dst_dtype or self.dtype)
        return rows[..., : self.kv_lora_rank], rows[..., self.kv_lora_rank :]

    def move_kv_cache(self, tgt_loc: torch.Tensor, src_loc: torch.Tensor) -> None:
        """Copy what the slots ``src_loc`` hold into ``tgt_loc``, in every layer."""
        for buffer in self.kv_buffer:
            buffer[tgt_loc] = buffer[src_loc]

    @released(COPIED)
    def get_cpu_copy(self, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None) -> Any:
        """A copy on the host of what some slots hold: by layer, by chunk of slots."""
        return copy_to_host((self.kv_buffer,), indices)

    @released(COPIED)
    def load_cpu_copy(
        self, kv_cache_cpu: Any, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None
    ) -> None:
        """Put such a copy into other slots."""
        copy_from_host((self.kv_buffer,), kv_cache_cpu, indices)


_KPOOL = Lifetime("0.5.20")
_INDEX_HEAD_DIM = 128
_INDEX_PAGE = 64


@placed("memory_pool")
class DSATokenToKVPool(MLATokenToKVPool):
    """Latent attention's pool with, page by page, the index keys in float8 and their scales.

    A page of index keys holds 64 keys of 128 bytes, then the 64 scales of 4 bytes.
    """

    quant_block_size = 128
    index_k_with_scale_buffer_dtype = torch.uint8
    rope_storage_dtype = torch.bfloat16

    @released(
        Parameters(
            {
                "index_kpool": _KPOOL,
                "index_kpool_compress": _KPOOL,
                "tail_extra_slots": _KPOOL,
                "max_running_requests": _KPOOL,
                "skip_topk_layers": Lifetime("0.5.18"),
                **_REPLICATED,
            }
        )
    )
    def __init__(
        self,
        size: int,
        page_size: int,
        kv_lora_rank: int,
        dtype: torch.dtype,
        qk_rope_head_dim: int,
        layer_num: int,
        device: str,
        index_head_dim: int,
        enable_memory_saver: bool,
        kv_cache_dim: int,
        start_layer: int | None = None,
        end_layer: int | None = None,
        index_buf_size: int | None = None,
        index_kpool: int = 1,
        index_kpool_compress: bool = False,
        tail_extra_slots: int = 0,
        max_running_requests: int | None = None,
        skip_topk_layers: list[bool] | None = None,
        dcp_replicated: bool = False,
    ) -> None:
        if (index_kpool or 1) != 1 or index_kpool_compress or tail_extra_slots or any(skip_topk_layers or ()):
            raise not_covered("index keys pooled or left out")
        assert index_head_dim == _INDEX_HEAD_DIM, f"index keys have {_INDEX_HEAD_DIM} dimensions, not {index_head_dim}"
        assert page_size == _INDEX_PAGE, f"sparse attention wants pages of {_INDEX_PAGE} tokens, not of {page_size}"
        plain = kv_lora_rank + qk_rope_head_dim
        sparse: dict[str, Any] = {"use_dsa" if since("0.5.13") else "use_nsa": True}
        if dcp_replicated:
            sparse["dcp_replicated"] = True
        super().__init__(
            size,
            page_size,
            dtype,
            kv_lora_rank,
            qk_rope_head_dim,
            layer_num,
            device,
            enable_memory_saver,
            start_layer,
            end_layer,
            override_kv_cache_dim=None if kv_cache_dim == plain else kv_cache_dim,
            **sparse,
        )
        self.index_head_dim = index_head_dim
        pages = ((size if index_buf_size is None else index_buf_size) + page_size + 1) // page_size
        width = page_size * (index_head_dim + index_head_dim // self.quant_block_size * 4)
        self.index_k_with_scale_buffer = [
            torch.zeros((pages, width), dtype=self.index_k_with_scale_buffer_dtype, device=device)
            for _ in range(layer_num)
        ]
        self._finalize_allocation_log(size)

    def get_kv_size_bytes(self) -> int:
        """What the layers take, with their index keys, in bytes."""
        return super().get_kv_size_bytes() + size_in_bytes(self.index_k_with_scale_buffer)

    def get_index_k_with_scale_buffer(self, layer_id: int) -> torch.Tensor:
        """The index keys and scales of a layer, a row a page."""
        self._wait_for(layer_id)
        return self.index_k_with_scale_buffer[layer_id - self.start_layer]

    def set_index_k_scale_buffer(
        self, layer_id: int, loc: torch.Tensor, index_k: torch.Tensor, index_k_scale: torch.Tensor
    ) -> None:
        """Write the index keys (float8) and scales (float32) of some tokens, for their slots."""
        buffer = self.index_k_with_scale_buffer[layer_id - self.start_layer]
        page, place = loc // self.page_size, loc % self.page_size
        for values, before in ((index_k, 0), (index_k_scale, self.page_size * self.index_head_dim)):
            values = values.reshape(len(loc), -1).contiguous().view(torch.uint8)
            width = values.shape[1]
            columns = before + place[:, None] * width + torch.arange(width, device=loc.device)
            buffer[page[:, None], columns] = values


if not since("0.5.13"):
    DSATokenToKVPool.__name__ = DSATokenToKVPool.__qualname__ = "NSATokenToKVPool"
