"""A model's ``config.json``, with what Hugging Face's classes have where it says nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_COMMON: Mapping[str, Any] = {
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "LlamaForCausalLM": {"model_type": "llama"},
    "MixtralForCausalLM": {"model_type": "mixtral", "rms_norm_eps": 1e-5, "sliding_window": None},
    "DeepseekV2ForCausalLM": {
        "model_type": "deepseek_v2",
        "q_lora_rank": None,
        "first_k_dense_replace": 0,
        "moe_layer_freq": 1,
        "n_routed_experts": None,
    },
}


class HuggingFaceConfig(SimpleNamespace):
    """The names and values of a configuration."""


def read_config(folder: str, overrides: Mapping[str, Any]) -> HuggingFaceConfig:
    """A folder's configuration, with ``overrides`` in place of what it says.

    Raises OSError where it cannot be read, ValueError where it is no JSON object or names no architecture.
    """
    path = Path(folder) / "config.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(told, dict) or not isinstance(told.get("architectures"), list) or not told["architectures"]:
        raise ValueError(f'{path} names no architectures, as in {{"architectures": ["LlamaForCausalLM"]}}')
    told = {**_COMMON, **_KINDS.get(told["architectures"][0], {}), **told, **overrides}
    told.setdefault("num_key_value_heads", told.get("num_attention_heads"))
    told["dtype"] = told.get("dtype") or told.pop("torch_dtype", None)
    if told.get("head_dim") is None:
        told["head_dim"] = told["hidden_size"] // told["num_attention_heads"]
    return HuggingFaceConfig(**told)
