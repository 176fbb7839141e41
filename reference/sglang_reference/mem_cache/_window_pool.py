"""A pool of two: for layers of full attention, and for those that look back through a window.

Facts: srt/mem_cache/swa_memory_pool.py of SGLang 0.5.11, 0.5.12, 0.5.13, 0.5.14, 0.5.17, 0.5.19, 0.5.22 and 0.5.23,
srt/mem_cache/base_swa_memory_pool.py of 0.5.12.
"""

from __future__ import annotations

import abc
import logging
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._contract import since
from .._released import Lifetime, Parameters, Renamed, released
from ._kv_pools import COPIED, GIB, KVCache, MHATokenToKVPool
from ._latent_pools import MLATokenToKVPool
from ._placing import placed
from ._write_loc import slots_of

logger = logging.getLogger("sglang.srt.mem_cache.swa_memory_pool")

_TWO = Lifetime("0.5.19")
_WINDOW = ("swa_head_num", "swa_head_dim", "swa_v_head_dim")


@placed("base_swa_memory_pool")
class BaseSWAKVPool(KVCache):
    """A pool with a second one for the window, in which a slot of the first has another number."""

    swa_kv_pool: Any

    @abc.abstractmethod
    def register_mapping(self, full_to_swa_index_mapping: torch.Tensor) -> None:
        """Take the numbers that slots have in the window's pool; 0 for one that is not in it."""

    @abc.abstractmethod
    def translate_loc_from_full_to_swa(self, kv_indices: torch.Tensor) -> torch.Tensor:
        """The numbers that slots have in the window's pool."""


@placed("swa_memory_pool", set_swa_loc=Lifetime(gone="0.5.13"), is_mla=_TWO)
class SWAKVPool(BaseSWAKVPool):
    """Both pools, made of one class unless two are given; layers are numbered as in the model."""

    @released(
        Parameters(
            {
                "enable_kvcache_transpose": Lifetime(gone="0.5.15"),
                "full_kv_pool_class": _TWO,
                "swa_kv_pool_class": _TWO,
                "full_kv_pool_kwargs": _TWO,
                "swa_kv_pool_kwargs": _TWO,
                "enable_memory_saver": Lifetime("0.5.22"),
            }
        )
    )
    def __init__(
        self,
        size: int,
        size_swa: int,
        page_size: int,
        dtype: torch.dtype,
        head_num: int,
        head_dim: int,
        swa_attention_layer_ids: list[int],
        full_attention_layer_ids: list[int],
        enable_kvcache_transpose: bool,
        device: str,
        token_to_kv_pool_class: type[KVCache] = MHATokenToKVPool,
        full_kv_pool_class: type | None = None,
        swa_kv_pool_class: type | None = None,
        full_kv_pool_kwargs: dict[str, Any] | None = None,
        swa_kv_pool_kwargs: dict[str, Any] | None = None,
        enable_memory_saver: bool = False,
        **kwargs: Any,
    ) -> None:
        if enable_kvcache_transpose:
            raise not_covered("pools that are transposed")
        self.size, self.size_swa = size, size_swa
        self.dtype, self.device, self.page_size = dtype, device, page_size
        self.head_num, self.head_dim = head_num, head_dim
        self.full_layer_nums, self.swa_layer_nums = len(full_attention_layer_ids), len(swa_attention_layer_ids)
        self.start_layer = 0
        self.layer_transfer_counter = None
        self.enable_custom_mem_pool, self.custom_mem_pool = False, None
        self.swa_loc: torch.Tensor | None = None
        self.full_to_swa_index_mapping: torch.Tensor | None = None
        shared = {
            **kwargs,
            "page_size": page_size,
            "enable_memory_saver": enable_memory_saver,
            "head_num": head_num,
            "head_dim": head_dim,
            "device": device,
        }
        full = {name: value for name, value in shared.items() if name not in _WINDOW}
        labels = ({"allocation_label": "Full"}, {"allocation_label": "SWA"}) if since("0.5.17") else ({}, {})
        parts = (
            (full_kv_pool_class, size, self.full_layer_nums, full_kv_pool_kwargs or {**full, **labels[0]}),
            (swa_kv_pool_class, size_swa, self.swa_layer_nums, swa_kv_pool_kwargs or {**shared, **labels[1]}),
        )
        # SGLang makes the window's pool first until it has labels.
        made: list[Any] = [
            (own or token_to_kv_pool_class)(size=number, dtype=dtype, layer_num=layers, **given)
            for own, number, layers, given in (parts if since("0.5.17") else parts[::-1])
        ]
        self.full_kv_pool, self.swa_kv_pool = made if since("0.5.17") else made[::-1]
        self.layers_mapping = {layer: (nth, False) for nth, layer in enumerate(full_attention_layer_ids)}
        self.layers_mapping |= {layer: (nth, True) for nth, layer in enumerate(swa_attention_layer_ids)}
        self.mem_usage = sum(self.get_kv_size_bytes()) / GIB
        logger.info("SWAKVPool mem usage: %.2f GB, swa size: %d, full size: %d", self.mem_usage, size_swa, size)

    def register_mapping(self, full_to_swa_index_mapping: torch.Tensor) -> None:
        """Take the numbers that slots have in the window's pool; 0 for one that is not in it."""
        self.full_to_swa_index_mapping = full_to_swa_index_mapping

    def translate_loc_from_full_to_swa(self, kv_indices: torch.Tensor) -> torch.Tensor:
        """The numbers that slots have in the window's pool; -1 stays -1."""
        assert self.full_to_swa_index_mapping is not None, "no allocator has registered its mapping"
        return self.full_to_swa_index_mapping[kv_indices].to(torch.int32)

    def set_swa_loc(self, loc: torch.Tensor) -> None:
        """Take the slots in the window's pool that the next writes are for."""
        self.swa_loc = loc

    def is_mla(self) -> bool:
        """Whether both pools are of latent attention."""
        return all(isinstance(pool, MLATokenToKVPool) for pool in (self.full_kv_pool, self.swa_kv_pool))

    def get_kv_size_bytes(self) -> tuple[int, int]:
        """What keys and values take in both pools, in bytes."""
        sizes = [pool.get_kv_size_bytes() for pool in (self.full_kv_pool, self.swa_kv_pool)]
        pairs = [size if isinstance(size, tuple) else (size, 0) for size in sizes]
        return sum(keys for keys, _ in pairs), sum(values for _, values in pairs)

    def _part(self, layer_id: int) -> tuple[Any, int]:
        nth, in_window = self.layers_mapping[layer_id]
        self._wait_for(layer_id)
        return (self.swa_kv_pool if in_window else self.full_kv_pool), nth

    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        """The keys of a layer, in the pool that it is in."""
        pool, nth = self._part(layer_id)
        keys: torch.Tensor = pool.get_key_buffer(nth)
        return keys

    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        """The values of a layer, in the pool that it is in."""
        pool, nth = self._part(layer_id)
        values: torch.Tensor = pool.get_value_buffer(nth)
        return values

    def get_kv_buffer(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and the values of a layer, in the pool that it is in."""
        pool, nth = self._part(layer_id)
        both: tuple[torch.Tensor, torch.Tensor] = pool.get_kv_buffer(nth)
        return both

    @released(Parameters({"swa_loc": Lifetime("0.5.13", "0.5.14")}, renamed={"loc_info": Renamed("loc", "0.5.14")}))
    def set_kv_buffer(
        self,
        layer: Any,
        loc_info: Any,
        cache_k: torch.Tensor,
        cache_v: torch.Tensor,
        k_scale: float = 1.0,
        v_scale: float = 1.0,
        swa_loc: torch.Tensor | None = None,
    ) -> None:
        """Write the layer's keys and values of some tokens; into the window's pool, at the slots there.

        From 0.5.14 on who writes says them; before, they are looked up where they are not said.
        """
        nth, in_window = self.layers_mapping[layer.layer_id]
        slots = slots_of(loc_info)
        if not in_window:
            self.full_kv_pool.set_kv_buffer(None, slots.full, cache_k, cache_v, k_scale, v_scale, layer_id_override=nth)
            return
        told = next((each for each in (slots.window, swa_loc, self.swa_loc) if each is not None), None)
        if told is None and not since("0.5.14"):
            told = self.translate_loc_from_full_to_swa(slots.full)
        assert told is not None, "the slots in the window's pool are not said"
        self.swa_kv_pool.set_kv_buffer(None, told, cache_k, cache_v, k_scale, v_scale, layer_id_override=nth)

    def move_kv_cache(self, tgt_loc: torch.Tensor, src_loc: torch.Tensor) -> None:
        """Copy what the slots ``src_loc`` hold into ``tgt_loc``, in both pools."""
        self.full_kv_pool.move_kv_cache(tgt_loc, src_loc)
        to, of = (self.translate_loc_from_full_to_swa(slots) for slots in (tgt_loc, src_loc))
        self.swa_kv_pool.move_kv_cache(to, of)

    @released(COPIED)
    def get_cpu_copy(self, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None) -> Any:
        """A copy on the host of what some slots hold; in the window's pool, of those that are in it."""
        window = self._in_window(indices)
        return {
            "full": self.full_kv_pool.get_cpu_copy(indices),
            "swa": None if window is None else self.swa_kv_pool.get_cpu_copy(window),
        }

    @released(COPIED)
    def load_cpu_copy(
        self, kv_cache_cpu: Any, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None
    ) -> None:
        """Put such a copy into other slots, which are in the window's pool as the first were."""
        self.full_kv_pool.load_cpu_copy(kv_cache_cpu["full"], indices)
        window = self._in_window(indices)
        if window is not None and kv_cache_cpu["swa"] is not None:
            self.swa_kv_pool.load_cpu_copy(kv_cache_cpu["swa"], window)

    def _in_window(self, indices: torch.Tensor) -> torch.Tensor | None:
        if self.full_to_swa_index_mapping is None:
            return None
        window = self.full_to_swa_index_mapping[indices]
        return window[window > 0]
