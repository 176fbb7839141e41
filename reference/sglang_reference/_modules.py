"""Which of SGLang's modules the reference has: one line a module, in the release's own layout.

A module whose name begins with an underscore is the reference's own, for the code that several of SGLang's share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Module(NamedTuple):
    """A module of SGLang that the reference has.

    ``partial``: SGLang's own holds more, and what it holds besides raises NotCovered. ``first`` and ``gone`` are the
    first release that has it and the first that has it no longer, ``covered`` the first in which the reference has it;
    empty where that is open.
    """

    partial: bool = True
    first: str = ""
    gone: str = ""
    covered: str = ""


_WHOLE = Module(partial=False)
_PART = Module()

MODULES: Mapping[str, Module] = {
    "_arguments": _WHOLE,
    "_arguments.capture": _WHOLE,
    "_arguments.checks": _WHOLE,
    "_arguments.fields": _WHOLE,
    "_arguments.memory": _WHOLE,
    "_arguments.model": _WHOLE,
    "_arguments.published": _WHOLE,
    "_arguments.resolving": _WHOLE,
    "_arguments.speculative": _WHOLE,
    "_arguments.steps": _WHOLE,
    "_behaviours": _WHOLE,
    "_contract": _WHOLE,
    "_detection": _WHOLE,
    "_members": _WHOLE,
    "_partial": _WHOLE,
    "_released": _WHOLE,
    "distributed": _PART,
    "distributed._accessors": _WHOLE,
    "distributed._devices": _WHOLE,
    "distributed._environment": _WHOLE,
    "distributed._gathers": _WHOLE,
    "distributed._group": _WHOLE,
    "distributed._model_parallel": _WHOLE,
    "distributed._objects": _WHOLE,
    "distributed._processes": _WHOLE,
    "distributed._reductions": _WHOLE,
    "distributed._registry": _WHOLE,
    "distributed._scopes": _WHOLE,
    "distributed._stateless": _WHOLE,
    "distributed._switches": _WHOLE,
    "distributed._tensor_dicts": _WHOLE,
    "distributed.communication_op": _PART,
    "distributed.device_communicators": _PART,
    "distributed.device_communicators._first_generation": _WHOLE,
    "distributed.device_communicators._nccl_types": _WHOLE,
    "distributed.device_communicators.custom_all_reduce": _PART,
    "distributed.device_communicators.custom_all_reduce_utils": _PART,
    "distributed.device_communicators.custom_all_reduce_v2": _PART,
    "distributed.device_communicators.pynccl": _PART,
    "distributed.device_communicators.pynccl_wrapper": _PART,
    "distributed.parallel_state": _PART,
    "distributed.utils": _PART,
    "environ": _WHOLE,
    "mem_cache": _PART,
    "mem_cache._allocators": _WHOLE,
    "mem_cache._building": _WHOLE,
    "mem_cache._kv_pools": _WHOLE,
    "mem_cache._latent_pools": _WHOLE,
    "mem_cache._page_slots": _WHOLE,
    "mem_cache._paged_allocator": _WHOLE,
    "mem_cache._placing": _WHOLE,
    "mem_cache._plan": _WHOLE,
    "mem_cache._request_pool": _WHOLE,
    "mem_cache._saving": _WHOLE,
    "mem_cache._sharing": _WHOLE,
    "mem_cache._sizing": _WHOLE,
    "mem_cache._write_loc": _WHOLE,
    "mem_cache.allocator": _PART,
    "mem_cache.allocator.base": Module(first="0.5.13"),
    "mem_cache.allocator.paged": Module(first="0.5.13"),
    "mem_cache.allocator.token": Module(first="0.5.13"),
    "mem_cache.base_prefix_cache": _PART,
    "mem_cache.kv_cache_configurator": Module(first="0.5.16"),
    "mem_cache.memory_pool": _PART,
    "model_executor": _PART,
    "model_executor.cuda_graph_config": Module(first="0.5.14"),
    "model_executor.model_runner_kv_cache_mixin": Module(gone="0.5.16"),
    "model_executor.pool_configurator": _PART,
    "kernels": Module(first="0.5.16", covered="0.5.18"),
    "kernels.fused_op": Module(first="0.5.16", covered="0.5.18"),
    "kernels.spec": Module(first="0.5.16", covered="0.5.18"),
    "layers": _PART,
    "layers._partition": _WHOLE,
    "layers._weights": _WHOLE,
    "layers.activation": _PART,
    "layers.layernorm": _PART,
    "layers.linear": _PART,
    "layers.logits_processor": _PART,
    "layers.moe": _PART,
    "layers.moe.ep_moe": _PART,
    "layers.moe.ep_moe.layer": _PART,
    "layers.moe.fused_moe_native": _PART,
    "layers.moe.fused_moe_triton": _PART,
    "layers.moe.fused_moe_triton.layer": _PART,
    "layers.moe.moe_runner": _PART,
    "layers.moe.moe_runner.base": _PART,
    "layers.moe.token_dispatcher": _PART,
    "layers.moe.token_dispatcher.standard": _PART,
    "layers.moe.topk": _PART,
    "layers.quantization": _PART,
    "layers.quantization.base_config": _PART,
    "layers.quantization.unquant": _PART,
    "layers.rotary_embedding": _PART,
    "layers.rotary_embedding.base": _PART,
    "layers.rotary_embedding.factory": _PART,
    "layers.rotary_embedding.utils": _PART,
    "layers.sampler": _PART,
    "layers.utils": _PART,
    "layers.utils._in_tree": _WHOLE,
    "layers.utils._operator": _WHOLE,
    "layers.utils.common": _PART,
    "layers.utils.multi_platform": _PART,
    "layers.vocab_parallel_embedding": _PART,
    "platforms": _WHOLE,
    "platforms._shared": _WHOLE,
    "platforms.cpu": _WHOLE,
    "platforms.cuda": _WHOLE,
    "platforms.device_mixin": _WHOLE,
    "platforms.interface": _WHOLE,
    "platforms.mps": _WHOLE,
    "platforms.musa": _WHOLE,
    "platforms.npu": _WHOLE,
    "platforms.rocm": _WHOLE,
    "platforms.sail": _WHOLE,
    "platforms.xpu": _WHOLE,
    "plugins": _WHOLE,
    "plugins.hook_registry": _WHOLE,
    "runtime_context": Module(first="0.5.14", covered="0.5.21"),
    "server_args": _PART,
    "utils": _PART,
    "utils._host_memory": _WHOLE,
    "utils.common": _PART,
}
"""By the name below ``sglang.srt``; of the packages beside it, below ``sglang``."""
