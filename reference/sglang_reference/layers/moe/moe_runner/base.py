"""``sglang.srt.layers.moe.moe_runner.base``: the settings of a layer's experts (SGLang 0.5.11 and 0.5.23)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ...._partial import Partial


@dataclass
class MoeRunnerConfig(Partial):
    """How many experts there are, of what sizes, and what they do."""

    num_experts: int | None = None
    num_local_experts: int | None = None
    hidden_size: int | None = None
    intermediate_size_per_partition: int | None = None
    layer_id: int | None = None
    top_k: int | None = None
    num_fused_shared_experts: int | None = None
    params_dtype: torch.dtype | None = None
    activation: str = "silu"
    is_gated: bool = True
    apply_router_weight_on_input: bool = False
    inplace: bool = True
    no_combine: bool = False
    routed_scaling_factor: float | None = None
    gemm1_alpha: float | None = None
    gemm1_clamp_limit: float | None = None
    routing_method_type: Any = None
    runner_backend: Any = None
