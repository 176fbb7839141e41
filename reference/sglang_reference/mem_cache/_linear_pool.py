"""The pool of a model in which some layers have linear attention: the others' keys and values.

The states of the linear layers (Mamba's) are not covered: ``mamba_pool`` is kept as it is given.

Facts: srt/mem_cache/memory_pool.py of SGLang 0.5.11, 0.5.13, 0.5.15, 0.5.16, 0.5.18, 0.5.20, 0.5.22 and 0.5.23.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .. import platforms
from .._contract import since
from .._released import Lifetime, Parameters, Renamed, released
from ._kv_pools import COPIED, GIB, KVCache, MHATokenToKVPool
from ._latent_pools import MLATokenToKVPool
from ._placing import placed

_SPARSE = dict.fromkeys(
    (
        "use_dsa",
        "index_head_dim",
        "kv_cache_dim",
        "index_kpool",
        "index_kpool_compress",
        "tail_extra_slots",
        "max_running_requests",
        "skip_topk_layers",
    ),
    Lifetime("0.5.20"),
)
_SCALED = Parameters({"scale": Lifetime("0.5.16")})


@placed("memory_pool")
class HybridLinearKVPool(KVCache):
    """A pool of the layers with full attention, found by their numbers in the model.

    Before 0.5.22 it asks an out-of-tree platform for that pool's class itself; since, it is given one.
    """

    @released(
        Parameters(
            {
                "enable_kvcache_transpose": Lifetime(gone="0.5.15"),
                "enable_kv_cache_copy": Lifetime("0.5.13"),
                **_SPARSE,
                "full_kv_pool_class": Lifetime("0.5.15"),
                "quant_method": Lifetime("0.5.16"),
                "full_kv_pool": Lifetime("0.5.15"),
                "post_capture_active": Lifetime("0.5.16"),
            }
        )
    )
    def __init__(
        self,
        size: int,
        dtype: torch.dtype,
        page_size: int,
        head_num: int,
        head_dim: int,
        full_attention_layer_ids: list[int],
        enable_kvcache_transpose: bool,
        device: str,
        mamba_pool: Any,
        enable_memory_saver: bool = False,
        enable_kv_cache_copy: bool = False,
        use_mla: bool = False,
        kv_lora_rank: int | None = None,
        qk_rope_head_dim: int | None = None,
        use_dsa: bool = False,
        index_head_dim: int | None = None,
        kv_cache_dim: int | None = None,
        index_kpool: int = 1,
        index_kpool_compress: bool = False,
        tail_extra_slots: int = 0,
        max_running_requests: int | None = None,
        skip_topk_layers: list[bool] | None = None,
        start_layer: int | None = None,
        full_kv_pool_class: type | None = None,
        quant_method: Any = None,
        full_kv_pool: KVCache | None = None,
        post_capture_active: bool = False,
    ) -> None:
        refused = {
            "pools that are transposed": enable_kvcache_transpose,
            "sparse attention beside linear attention": use_dsa,
            "quantized pools": quant_method is not None,
            "pools that are filled after graphs are captured": post_capture_active,
        }
        for what, asked in refused.items():
            if asked:
                raise not_covered(what)
        self.size, self.dtype, self.device, self.page_size = size, dtype, device, page_size
        self.head_num, self.head_dim, self.use_mla = head_num, head_dim, use_mla
        self.full_layer_nums = len(full_attention_layer_ids)
        self.start_layer = start_layer or 0
        self.layer_transfer_counter = None
        self.mamba_pool = mamba_pool
        self.full_attention_layer_id_mapping = {layer: nth for nth, layer in enumerate(full_attention_layer_ids)}
        given: dict[str, Any] = {
            "size": size,
            "page_size": page_size,
            "dtype": dtype,
            "layer_num": self.full_layer_nums,
            "device": device,
            "enable_memory_saver": enable_memory_saver,
        }
        if use_mla:
            given |= {"kv_lora_rank": kv_lora_rank, "qk_rope_head_dim": qk_rope_head_dim}
        else:
            given |= {"head_num": head_num, "head_dim": head_dim}
            given |= {"enable_kv_cache_copy": enable_kv_cache_copy} if since("0.5.13") else {}
        self.full_kv_pool: Any = full_kv_pool or self._made(full_kv_pool_class, given)
        sizes = self.get_kv_size_bytes()
        self.mem_usage = (sum(sizes) if isinstance(sizes, tuple) else sizes) / GIB

    def _made(self, chosen: type | None, given: dict[str, Any]) -> Any:
        base = MLATokenToKVPool if self.use_mla else MHATokenToKVPool
        platform = platforms.current_platform
        if platform.is_out_of_tree() and not since("0.5.22"):
            asked = platform.get_mla_kv_pool_cls if self.use_mla else platform.get_mha_kv_pool_cls
            return asked()(**given)
        quantized = {"quant_method": None} if since("0.5.16") and not self.use_mla else {}
        return (chosen or base)(**given, **quantized)

    def _transfer_full_attention_id(self, layer_id: int) -> int:
        if layer_id not in self.full_attention_layer_id_mapping:
            layers = list(self.full_attention_layer_id_mapping)
            raise ValueError(f"layer {layer_id} has no full attention; these have: {layers}")
        return self.full_attention_layer_id_mapping[layer_id]

    @contextmanager
    def _transfer_id_context(self, layer: Any) -> Iterator[Any]:
        """The layer with its number in the inner pool, for as long as the context lasts."""
        number = layer.layer_id
        layer.layer_id = self._transfer_full_attention_id(number)
        try:
            yield layer
        finally:
            layer.layer_id = number

    def get_kv_size_bytes(self) -> Any:
        """What the inner pool takes, in bytes."""
        return self.full_kv_pool.get_kv_size_bytes()

    def get_v_head_dim(self) -> int:
        """The width of a head's values."""
        return int(self.full_kv_pool.get_value_buffer(0).shape[-1])

    def maybe_get_custom_mem_pool(self) -> Any:
        """The memory pool of torch's that the buffers lie in."""
        return self.full_kv_pool.maybe_get_custom_mem_pool()

    @released(_SCALED)
    def get_key_buffer(self, layer_id: int, scale: float | None = None) -> torch.Tensor:
        """The keys of a layer with full attention; ValueError for another."""
        self._wait_for(layer_id)
        keys: torch.Tensor = self.full_kv_pool.get_key_buffer(self._transfer_full_attention_id(layer_id))
        return keys

    @released(_SCALED)
    def get_value_buffer(self, layer_id: int, scale: float | None = None) -> torch.Tensor:
        """The values of a layer with full attention; ValueError for another."""
        self._wait_for(layer_id)
        values: torch.Tensor = self.full_kv_pool.get_value_buffer(self._transfer_full_attention_id(layer_id))
        return values

    def get_kv_buffer(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and the values of a layer with full attention; ValueError for another."""
        self._wait_for(layer_id)
        both: tuple[torch.Tensor, torch.Tensor] = self.full_kv_pool.get_kv_buffer(
            self._transfer_full_attention_id(layer_id)
        )
        return both

    @released(Parameters({"dcp_kv_mask": Lifetime("0.5.15")}, renamed={"loc_info": Renamed("loc", "0.5.22")}))
    def set_kv_buffer(
        self,
        layer: Any,
        loc_info: Any,
        cache_k: torch.Tensor,
        cache_v: torch.Tensor,
        k_scale: float = 1.0,
        v_scale: float = 1.0,
        dcp_kv_mask: torch.Tensor | None = None,
    ) -> None:
        """Write the layer's keys and values of some tokens into their slots."""
        if dcp_kv_mask is not None:
            raise not_covered("decode context parallelism")
        if self.use_mla:
            with self._transfer_id_context(layer):
                self.full_kv_pool.set_kv_buffer(layer, loc_info, cache_k, cache_v)
            return
        nth = self._transfer_full_attention_id(layer.layer_id)
        self.full_kv_pool.set_kv_buffer(None, loc_info, cache_k, cache_v, k_scale, v_scale, layer_id_override=nth)

    @released(
        Parameters({"loc_is_dense": Lifetime("0.5.17", "0.5.19")}, renamed={"loc_info": Renamed("loc", "0.5.22")})
    )
    def set_mla_kv_buffer(
        self,
        layer: Any,
        loc_info: Any,
        cache_k_nope: torch.Tensor,
        cache_k_rope: torch.Tensor,
        loc_is_dense: bool = False,
    ) -> None:
        """Write the latent and the rotary part of the layer's keys of some tokens into their slots."""
        with self._transfer_id_context(layer):
            self.full_kv_pool.set_mla_kv_buffer(layer, loc_info, cache_k_nope, cache_k_rope)

    def get_mla_kv_buffer(
        self, layer: Any, loc: torch.Tensor, dst_dtype: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What some slots of the layer hold: the latent and the rotary part."""
        with self._transfer_id_context(layer):
            parts: tuple[torch.Tensor, torch.Tensor] = self.full_kv_pool.get_mla_kv_buffer(layer, loc, dst_dtype)
        return parts

    def move_kv_cache(self, tgt_loc: torch.Tensor, src_loc: torch.Tensor) -> None:
        """Copy what the slots ``src_loc`` hold into ``tgt_loc``, in every layer."""
        self.full_kv_pool.move_kv_cache(tgt_loc, src_loc)

    @released(COPIED)
    def get_cpu_copy(self, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None) -> Any:
        """A copy on the host of what some slots hold; NotCovered for states of Mamba."""
        if mamba_indices is not None:
            raise not_covered("copies of Mamba's states")
        return self.full_kv_pool.get_cpu_copy(indices), None

    @released(COPIED)
    def load_cpu_copy(
        self, cache_cpu: Any, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None
    ) -> None:
        """Put such a copy into other slots."""
        self.full_kv_pool.load_cpu_copy(cache_cpu[0], indices)
