"""``sglang.srt.layers.moe.ep_moe.layer``: which class the experts of a model are (SGLang 0.5.11 and 0.5.23)."""

from __future__ import annotations

from ..fused_moe_triton.layer import FusedMoE


def get_moe_impl_class(quant_config: object) -> type[FusedMoE]:
    """The class for experts whose tokens every rank has."""
    return FusedMoE
