"""``sglang.srt.configs.model_config``: what the core asks about a model: its sizes, its kind of attention, its dtype.

Facts: SGLang 0.5.11 to 0.5.23, srt/configs/model_config.py.
"""

from __future__ import annotations

import json
from enum import Enum, IntEnum, auto
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ._hugging_face import read_config

__all__ = ["AttentionArch", "ModelConfig", "ModelImpl"]

_DTYPES = {
    "half": torch.float16,
    "float16": torch.float16,
    "float": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}
_LATENT = frozenset(["DeepseekV2ForCausalLM"])


class AttentionArch(IntEnum):
    """What is kept of a token: keys and values, or a latent of both."""

    MLA = auto()
    MHA = auto()


class ModelImpl(str, Enum):
    """Whose implementation of a model serves."""

    AUTO = "auto"
    SGLANG = "sglang"
    TRANSFORMERS = "transformers"


class ModelConfig(Partial):
    """A model: ``hf_config`` is what its ``config.json`` holds, the rest follows from that and the arguments."""

    num_attention_heads: int
    num_key_value_heads: int

    @released(
        Parameters(
            {
                "model_config_parser": Lifetime("0.5.12"),
                "speculative_algorithm": Lifetime("0.5.16"),
                "language_model_only": Lifetime("0.5.18"),
                "is_draft_quantization_explicit": Lifetime("0.5.18"),
            }
        )
    )
    def __init__(
        self,
        model_path: str,
        trust_remote_code: bool = True,
        revision: str | None = None,
        context_length: int | None = None,
        model_override_args: str = "{}",
        is_embedding: bool | None = None,
        enable_multimodal: bool | None = None,
        dtype: str = "auto",
        quantization: str | None = None,
        override_config_file: str | None = None,
        is_draft_model: bool = False,
        model_impl: str | ModelImpl = ModelImpl.AUTO,
        sampling_defaults: str = "openai",
        quantize_and_serve: bool = False,
        is_multi_layer_eagle: bool = False,
        encoder_only: bool = False,
        language_only: bool = False,
        language_model_only: bool = False,
        disable_hybrid_swa_memory: bool = False,
        model_config_parser: str = "auto",
        speculative_algorithm: str | None = None,
        is_draft_quantization_explicit: bool = False,
    ) -> None:
        """Raises OSError or ValueError where the folder's ``config.json`` is unusable, or arguments do not fit it."""
        if is_embedding or is_draft_model or quantize_and_serve or is_multi_layer_eagle or encoder_only:
            raise not_covered("a model that embeds, drafts, is quantised while it is served, or only encodes")
        if override_config_file:
            raise not_covered("a configuration file other than config.json")
        self.model_path, self.revision = model_path, revision
        self.quantization, self.model_impl = quantization, model_impl
        self.sampling_defaults, self.is_draft_model = sampling_defaults, is_draft_model
        self.hf_config: Any = read_config(model_path, json.loads(model_override_args))
        self.hf_text_config = self.hf_config
        self.hf_generation_config = None
        self.hf_eos_token_id = _tokens(self.hf_config.eos_token_id)
        self.dtype = _dtype_of(self.hf_config, dtype)
        self.is_generation, self.is_multimodal, self.is_encoder_decoder = True, False, False
        self.is_hybrid_swa, self.attention_chunk_size, self.sliding_window_size = False, None, None
        self.model_is_mrope, self.use_ngram_embedding, self.is_audio_model = False, False, False
        self.is_embedding, self.is_matryoshka, self.is_local_attention_model = False, False, False
        self._set_context(context_length)
        self._set_shapes()
        self._set_quantization()

    @staticmethod
    @released(Parameters({"context_length": Lifetime("0.5.15")}))
    def from_server_args(
        server_args: Any,
        model_path: str | None = None,
        model_revision: str | None = None,
        is_draft_model: bool = False,
        context_length: int | None = None,
        **kwargs: Any,
    ) -> ModelConfig:
        """The model that the server's arguments name."""
        return ModelConfig(
            model_path=model_path or server_args.model_path,
            trust_remote_code=server_args.trust_remote_code,
            revision=model_revision or server_args.revision,
            context_length=server_args.context_length if context_length is None else context_length,
            model_override_args=server_args.json_model_override_args,
            is_embedding=server_args.is_embedding,
            dtype=server_args.dtype,
            quantization=server_args.quantization,
            is_draft_model=is_draft_model,
            **kwargs,
        )

    def get_total_num_attention_heads(self) -> int:
        """Heads of queries, on all ranks."""
        return self.num_attention_heads

    def get_num_attention_heads(self, tensor_parallel_size: int) -> int:
        """Heads of queries, on each rank."""
        return max(1, self.num_attention_heads // tensor_parallel_size)

    def get_total_num_kv_heads(self) -> int:
        """Heads of keys, on all ranks."""
        return self.num_key_value_heads

    @released(Parameters({"dcp_size": Lifetime("0.5.18")}))
    def get_num_kv_heads(self, tensor_parallel_size: int, dcp_size: int = 1) -> int:
        """Heads of keys, on each rank; at least one."""
        return max(1, self.num_key_value_heads // (tensor_parallel_size // (dcp_size or 1)))

    def get_swa_num_kv_heads(self, tensor_parallel_size: int) -> int:
        """The same, in layers with a sliding window."""
        return self.get_num_kv_heads(tensor_parallel_size)

    def _set_context(self, asked: int | None) -> None:
        longest = self.hf_config.max_position_embeddings
        if asked is not None and asked > longest:
            raise ValueError(f"the context length {asked} is greater than the model's {longest}; ask for at most that")
        self.context_len = longest if asked is None else asked
        self.hf_config.context_len = self.context_len

    def _set_quantization(self) -> None:
        told = getattr(self.hf_config, "quantization_config", None)
        own = told.get("quant_method") if told else None
        self.quantization = self.quantization or own
        if own is not None and own != self.quantization:
            raise ValueError(f"the model is quantised by {own}, and {self.quantization} is asked for")

    def _set_shapes(self) -> None:
        config = self.hf_config
        self.hidden_size, self.vocab_size = config.hidden_size, config.vocab_size
        self.num_hidden_layers = self.num_attention_layers = config.num_hidden_layers
        self.num_attention_heads, self.num_key_value_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        self.v_head_dim = getattr(config, "v_head_dim", None) or self.head_dim
        self.attention_arch = AttentionArch.MHA
        if _LATENT.intersection(config.architectures):
            self.attention_arch, self.head_dim = AttentionArch.MLA, 256
            self.kv_lora_rank, self.index_head_dim = config.kv_lora_rank, None
            self.qk_nope_head_dim, self.qk_rope_head_dim = config.qk_nope_head_dim, config.qk_rope_head_dim
            self.scaling = (config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5
        self.swa_head_dim, self.swa_v_head_dim = self.head_dim, self.v_head_dim


def _dtype_of(config: Any, asked: Any) -> torch.dtype:
    """What weights are held in: float16 for a float32 model where nothing else is asked, as in SGLang."""
    own = _DTYPES.get(str(config.dtype or "float32").removeprefix("torch."), torch.float32)
    if isinstance(asked, torch.dtype):
        return asked
    if asked == "auto":
        return torch.float16 if own == torch.float32 else own
    if str(asked).lower() not in _DTYPES:
        raise ValueError(f"the dtype {asked!r} is none of auto, {', '.join(_DTYPES)}")
    return _DTYPES[str(asked).lower()]


def _tokens(given: Any) -> set[int] | None:
    if given is None:
        return None
    return {given} if isinstance(given, int) else set(given)
