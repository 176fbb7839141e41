"""What a user may ask of a server that the reference does not do: refused, rather than left out in silence."""

from __future__ import annotations

from typing import Any

from sglang_reference._errors import not_covered

from . import fields
from .resolving import settled

_SWITCHES = (
    "enable_lora",
    "lora_paths",
    "cpu_offload_gb",
    "offload_group_size",
    "enable_hierarchical_cache",
    "enable_two_batch_overlap",
    "enable_pdmux",
    "enable_torch_compile",
    "enable_memory_saver",
    "enable_eplb",
    "elastic_ep_backend",
    "enable_symm_mem",
    "enable_hisparse",
    "enable_dp_attention",
    "dllm_algorithm",
    "torchao_config",
    "forward_hooks",
    "enable_return_routed_experts",
    "enable_deterministic_inference",
    "enable_prefill_cp",
    "enable_unified_memory",
    "enable_weights_cpu_backup",
)
_WORDS = {"disaggregation_mode": "null", "moe_a2a_backend": "none", "model_impl": "auto"}
_SIZES = ("dp_size", "attn_dp_size", "attn_cp_size", "dcp_size", "moe_dp_size", "nnodes")


def refuse_what_is_not(arguments: Any) -> None:
    """Raise NotCovered for the first setting, as resolved, that the reference does not serve."""
    values = settled(arguments)
    for name in _SWITCHES:
        if name in fields.NAMES and getattr(values, name) not in (fields.DEFAULTS[name], False, None):
            raise not_covered(f"a server with {name}={getattr(values, name)!r}")
    for name, usual in _WORDS.items():
        if name in fields.NAMES and getattr(values, name) not in (None, usual):
            raise not_covered(f"a server with {name}={getattr(values, name)!r}")
    for name in _SIZES:
        if name in fields.NAMES and (getattr(values, name) or 1) > 1:
            raise not_covered(f"a server with {name}={getattr(values, name)}")
