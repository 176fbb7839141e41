"""The pools of a worker, and who hands out their slots: of the platform's classes where it has some.

How the platform is asked, and what its classes are made with, is as in SGLang to the letter:

- before 0.5.22 an out-of-tree platform alone: for one kind of pool, by the method of that kind (get_mha_kv_pool_cls,
  get_mla_kv_pool_cls, get_nsa_kv_pool_cls or, from 0.5.13 on, get_dsa_kv_pool_cls), and for the allocator whatever the
  size of a page;
- from 0.5.22 on every platform: by get_kv_pool_cls for all kinds, and for the allocator where a page has several slots;
  None leaves both to SGLang.

Facts: srt/model_executor/model_runner_kv_cache_mixin.py of SGLang 0.5.11, 0.5.13 and 0.5.15,
srt/mem_cache/kv_cache_configurator.py of 0.5.16, 0.5.18, 0.5.20, 0.5.21, 0.5.22 and 0.5.23.
"""

from __future__ import annotations

from typing import Any

from .. import platforms
from .._contract import since
from ._allocators import BaseTokenToKVPoolAllocator, TokenToKVPoolAllocator
from ._kv_pools import KVCache, MHATokenToKVPool
from ._latent_pools import DSATokenToKVPool, MLATokenToKVPool
from ._paged_allocator import PagedTokenToKVPoolAllocator
from ._plan import EXTRA_CONTEXT, Worker
from ._request_pool import ReqToTokenPool

_BASES = {"mha": MHATokenToKVPool, "mla": MLATokenToKVPool, "dsa": DSATokenToKVPool}
_METHODS = {
    "mha": "get_mha_kv_pool_cls",
    "mla": "get_mla_kv_pool_cls",
    "dsa": "get_dsa_kv_pool_cls" if since("0.5.13") else "get_nsa_kv_pool_cls",
}


def kind_of(worker: Worker) -> str:
    """The kind of pool that the model wants: mha, mla or dsa."""
    if not worker.latent:
        return "mha"
    return "dsa" if worker.sparse else "mla"


def rows_of(worker: Worker, requests: int) -> ReqToTokenPool:
    """The rows of slots for so many requests."""
    return ReqToTokenPool(
        size=requests,
        max_context_len=worker.model_config.context_len + EXTRA_CONTEXT,
        device=worker.device,
        enable_memory_saver=worker.server_args.enable_memory_saver,
    )


def pool_of(worker: Worker, tokens: int, rows: ReqToTokenPool) -> KVCache:
    """The pool of keys and values of so many tokens."""
    kind = kind_of(worker)
    if since("0.5.22"):
        classes = {each: resolve_kv_pool_class(kind=each, default=base) for each, base in _BASES.items()}
        return _a_pool(classes[kind](tokens, **_common(worker), **_own(worker, kind, rows)))
    platform = platforms.current_platform
    if platform.is_out_of_tree():
        return _a_pool(getattr(platform, _METHODS[kind])()(tokens, **_common(worker), **_for_a_vendor(worker, kind)))
    return _a_pool(_BASES[kind](tokens, **_common(worker), **_own(worker, kind, rows)))


def _a_pool(made: Any) -> KVCache:
    """What was made, which SGLang takes for a pool as it is."""
    pool: KVCache = made
    return pool


def resolve_kv_pool_class(*, kind: str, default: type) -> type:
    """The platform's class of pool, or ``default`` where it has none; TypeError for one of another kind."""
    platform = platforms.current_platform
    found: Any = platform.get_kv_pool_cls(kind=kind)
    if found is None:
        return default
    base = _BASES[kind]
    if not (isinstance(found, type) and issubclass(found, base)):
        raise TypeError(
            f"{type(platform).__name__}.get_kv_pool_cls(kind={kind!r}) gave {found!r}, which is no subclass of "
            f"{base.__name__}"
        )
    return found


def allocator_of(worker: Worker, tokens: int, pool: KVCache) -> BaseTokenToKVPoolAllocator:
    """Who hands out the slots of the pool."""
    args = worker.server_args
    given: dict[str, Any] = {
        "dtype": worker.dtype,
        "device": worker.device,
        "kvcache": pool,
        "need_sort": args.disaggregation_mode in ("decode", "prefill"),
    }
    platform = platforms.current_platform
    vendors = platform.is_out_of_tree() and not since("0.5.22")
    if args.page_size == 1 and not vendors:
        return TokenToKVPoolAllocator(tokens, **given)
    asked = vendors or since("0.5.22")
    found: Any = platform.get_paged_allocator_cls() if asked else None
    if found is None and not vendors:
        found = PagedTokenToKVPoolAllocator
    made: BaseTokenToKVPoolAllocator = found(tokens, page_size=args.page_size, **given)
    return made


def _common(worker: Worker) -> dict[str, Any]:
    """What every pool is made with."""
    return {
        "page_size": worker.server_args.page_size,
        "dtype": worker.dtype,
        "layer_num": worker.layers,
        "device": worker.device,
        "enable_memory_saver": worker.server_args.enable_memory_saver,
        "start_layer": worker.start_layer,
        "end_layer": worker.end_layer,
    }


def _for_a_vendor(worker: Worker, kind: str) -> dict[str, Any]:
    """What a platform's class is made with besides, before 0.5.22."""
    config = worker.model_config
    if kind == "mha":
        return {"head_num": worker.kv_heads, "head_dim": config.head_dim}
    latent = {"kv_lora_rank": config.kv_lora_rank, "qk_rope_head_dim": config.qk_rope_head_dim}
    if kind == "mla":
        return {**latent, "index_head_dim": None}
    return {**latent, "kv_cache_dim": _width(worker), "index_head_dim": config.index_head_dim}


def _own(worker: Worker, kind: str, rows: ReqToTokenPool) -> dict[str, Any]:
    """What SGLang's class is made with besides, and a platform's from 0.5.22 on."""
    config, args = worker.model_config, worker.server_args
    if kind == "mha":
        given: dict[str, Any] = {
            "head_num": worker.kv_heads,
            "head_dim": config.head_dim,
            "v_head_dim": config.v_head_dim,
            "enable_alt_stream": not args.enable_pdmux,
            "enable_kv_cache_copy": args.speculative_algorithm is not None,
        }
        return {**given, "post_capture_active": False} if since("0.5.16") else given
    latent = {"kv_lora_rank": config.kv_lora_rank, "qk_rope_head_dim": config.qk_rope_head_dim}
    if kind == "mla":
        return latent
    given = {**latent, "kv_cache_dim": _width(worker), "index_head_dim": config.index_head_dim}
    if since("0.5.20"):
        given |= {
            "index_kpool": 1,
            "index_kpool_compress": False,
            "tail_extra_slots": 0,
            "max_running_requests": rows.req_to_token.shape[0],
        }
    return given


def _width(worker: Worker) -> int:
    """How many numbers a token takes in a layer of a latent pool."""
    return int(worker.model_config.kv_lora_rank + worker.model_config.qk_rope_head_dim)
