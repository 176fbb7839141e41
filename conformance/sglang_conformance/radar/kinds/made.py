"""What SGLang makes of the classes that a platform hands out, and what it asks of the objects.

The requirements of the area FAC say the same, with the lines of SGLang (requirements/catalogue/08-factories.toml).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..reading.fits import Given

_ALLOCATOR = ("page_size", "dtype", "device", "kvcache", "need_sort")
_LOCATIONS = "req_pool_indices req_to_token start_offset end_offset batch_size draft_token_num device"


@dataclass(frozen=True)
class Made:
    """How SGLang makes an object of what a member gives, or calls it. ``sure``: whenever it is asked for."""

    given: Given
    sure: bool = True
    since: str = ""


MADE: dict[str, tuple[Made, ...]] = {
    "get_graph_runner_cls": (
        Made(Given(1)),
        Made(Given(1, ("attn_backend", "speculative_num_steps", "speculative_num_draft_tokens")), False, "0.5.23"),
    ),
    "get_full_graph_backend_cls": (Made(Given(1, ("enable_memory_saver",))),),
    "get_piecewise_backend_cls": (Made(Given(9)),),
    "get_paged_allocator_cls": (Made(Given(1, _ALLOCATOR)),),
    "get_speculative_worker_cls": (Made(Given(0, ("server_args", "gpu_id", "nccl_port", "target_worker"))),),
    "get_speculative_cache_locs_fn": (Made(Given(0, tuple(_LOCATIONS.split()))),),
}


@dataclass(frozen=True)
class Asked:
    """What core asks of the objects that it has made, from ``since`` on and before ``until`` (empty: no bound)."""

    names: tuple[str, ...]
    since: str = ""
    until: str = ""


# FAC-020 to FAC-024 of the same catalogue.
ASKED: dict[str, tuple[Asked, ...]] = {
    "get_graph_runner_cls": (
        Asked(("can_run",), until="0.5.14"),
        Asked(("can_run_graph",), since="0.5.14"),
        Asked(("capture_bs",), since="0.5.22"),
    ),
    "get_full_graph_backend_cls": (
        Asked(("capture_session", "capture_one", "can_run", "replay_session", "replay"), since="0.5.21"),
    ),
    "get_paged_allocator_cls": (Asked(("alloc", "alloc_extend", "alloc_decode", "free")),),
}
FUNCTIONS = frozenset({"get_speculative_cache_locs_fn"})
POOLS = "sglang.srt.mem_cache.memory_pool."
_COMMON = ("page_size", "dtype", "layer_num", "device", "enable_memory_saver", "start_layer", "end_layer")
_LATENT = (*_COMMON, "kv_lora_rank", "qk_rope_head_dim", "index_head_dim")
# How SGLang makes a pool up to 0.5.21 (0.5.11, srt/model_executor/model_runner_kv_cache_mixin.py:291 to 324; 0.5.21,
# srt/mem_cache/kv_cache_configurator.py:1421 to 1461). From 0.5.22 on it gives what its own pool of that kind takes.
POOLS_MADE = {
    "get_mha_kv_pool_cls": Given(1, (*_COMMON, "head_num", "head_dim")),
    "get_mla_kv_pool_cls": Given(1, _LATENT),
    "get_nsa_kv_pool_cls": Given(1, (*_LATENT, "kv_cache_dim")),
    "get_dsa_kv_pool_cls": Given(1, (*_LATENT, "kv_cache_dim")),
}
# SGLang's own pools, by kind (0.5.22, srt/mem_cache/kv_cache_configurator.py).
POOL_OF = {"mha": "MHATokenToKVPool", "mla": "MLATokenToKVPool", "dsa": "DSATokenToKVPool"}
# What it also gives them wherever it makes one that stands alone, where its own takes it (0.5.22 and 0.5.23, the same
# file: _build_mha_kv_pool, _build_mla_kv_pool, _build_dsa_kv_pool).
POOLS_GIVEN = {
    "mha": ("v_head_dim", "start_layer", "end_layer", "enable_alt_stream", "enable_kv_cache_copy"),
    "mla": ("start_layer", "end_layer"),
    "dsa": ("start_layer", "end_layer", "kv_cache_dim", "index_head_dim", "tail_extra_slots", "max_running_requests"),
}
