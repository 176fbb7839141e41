"""Tiny models, as data: what a folder holds that SGLang can serve, and that an oracle can compute.

Every weight is a small whole number times a power of two, so float32, bfloat16 and float16 hold it exactly, and a model
has the same weights in each of them. The numbers come from the raw stream of numpy's Philox generator, keyed by the
model's seed and the weight's name: no generator that others share has a part in it, nor has torch.

Random weights alone would make a token's best successor a matter of chance: of hundreds of logits, the two highest are
often as close as a short type rounds. So a head's row is the sum of two tokens' embeddings. What the embedding leaves
in the hidden state then speaks for the two successors of the last token, and what attention and the rest have added,
which is of the same size, decides between them. A tied head cannot have that, so its margins are smaller; and where the
embedding spoke, it would repeat the last token, so its layers speak louder. A router would send tokens to one expert or
another as they are rounded; so the hidden state begins with a number for each expert, which comes from the embedding
alone and is far from its neighbours.
"""

from __future__ import annotations

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import archive

Weights = Mapping[str, NDArray[np.float32]]

LENGTHS = (1, 7, 16, 17, 32, 40)
"""Of the prompts of a model, in tokens."""

# The two tokens before a token, each by a factor that has no divisor in common with the vocabulary's size, and a shift.
_PREDECESSORS = ((77, 13), (141, 57))
# The numbers for the experts of a token, in whatever order.
_AFFINITIES = (-27, -9, 9, 27)


@dataclass(frozen=True)
class Drawn:
    """A weight to be drawn: its shape, and the power of two that whole numbers are multiplied by.

    These lie between -120 and 120 and deviate by 18.4 from zero; ``around`` is added afterwards.
    """

    shape: tuple[int, ...]
    power: int
    around: float = 0.0

    def numbers(self, seed: int, name: str) -> NDArray[np.float32]:
        """The weight's numbers, the same for the same seed and name."""
        key = np.array([seed, zlib.crc32(name.encode())], dtype=np.uint64)
        count = int(np.prod(self.shape))
        octets = np.random.Philox(key=key).random_raw(count).astype("<u8").view(np.uint8).reshape(count, 8)
        whole = (octets & 15).sum(1, dtype=np.int64) + (octets >> 4).sum(1, dtype=np.int64) - 120
        numbers: NDArray[np.float32] = (whole * 2.0**self.power + self.around).astype(np.float32)
        return numbers.reshape(self.shape)


@dataclass(frozen=True, kw_only=True)
class Checkpoint(ABC):
    """A model of one kind: its sizes, and the seed of its weights."""

    name: str
    seed: int
    hidden: int = 128
    layers: int = 2
    vocabulary: int = 320
    heads: int = 8
    positions: int = 512
    eps: float = 2.0**-6
    theta: float = 10000.0
    tied: bool = False
    picks: tuple[int, ...] = (0,) * 6

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """Six prompts whose greedy continuations of sixteen tokens leave little room for doubt: the best of many."""
        return tuple(self.prompt(length, pick) for length, pick in zip(LENGTHS, self.picks, strict=True))

    def prompt(self, length: int, pick: int) -> tuple[int, ...]:
        """One of many prompts of a length."""
        drawn = np.random.Philox(key=np.array([pick, length], dtype=np.uint64)).random_raw(length)
        return tuple(int(token) for token in drawn % self.vocabulary)

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What ``config.json`` holds, by Hugging Face's names."""

    @abstractmethod
    def layer(self, prefix: str) -> Iterator[tuple[str, Drawn]]:
        """The weights of a layer whose names begin with ``prefix``, except for its norms."""

    def drawn(self) -> Iterator[tuple[str, Drawn]]:
        """Every weight, by Hugging Face's names, in the order of the model."""
        yield "model.embed_tokens.weight", Drawn((self.vocabulary, self.hidden), -7)
        for index in range(self.layers):
            prefix = f"model.layers.{index}."
            yield prefix + "input_layernorm.weight", Drawn((self.hidden,), -7, 1.0)
            yield from self.layer(prefix)
            yield prefix + "post_attention_layernorm.weight", Drawn((self.hidden,), -7, 1.0)
        yield "model.norm.weight", Drawn((self.hidden,), -7, 1.0)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Every weight's numbers, by Hugging Face's names: made once a process, and not to be written to."""
        return dict(_weights(self))

    def arranged(self, weights: dict[str, NDArray[np.float32]]) -> None:  # noqa: B027 - most kinds need nothing
        """Set what is not to be drawn."""

    def write(self, folder: Path) -> None:
        """Leave ``config.json`` and ``pytorch_model.bin`` in a folder, which is made; torch has no part in it.

        Raises OSError where that cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        archive.write(folder / "pytorch_model.bin", self.weights())

    def _common(self, architecture: str, kind: str) -> dict[str, Any]:
        return {
            "architectures": [architecture],
            "model_type": kind,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
            "rms_norm_eps": self.eps,
            "rope_theta": self.theta,
            "rope_scaling": None,
            "tie_word_embeddings": self.tied,
            "attention_bias": False,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
            "torch_dtype": "float32",
        }


@dataclass(frozen=True, kw_only=True)
class Llama(Checkpoint):
    """Grouped-query attention: several query heads share a key head."""

    key_heads: int = 2
    head: int = 32
    intermediate: int = 192

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return self._common("LlamaForCausalLM", "llama") | {
            "num_key_value_heads": self.key_heads,
            "head_dim": self.head,
            "intermediate_size": self.intermediate,
        }

    def layer(self, prefix: str) -> Iterator[tuple[str, Drawn]]:
        """A layer's weights."""
        yield from _grouped(prefix, self.hidden, self.heads, self.key_heads, self.head, 3 * self.tied)
        yield from _dense(prefix, self.hidden, self.intermediate, 3 * self.tied)


@dataclass(frozen=True, kw_only=True)
class Latent(Checkpoint):
    """Multi-head latent attention: what is kept of a token is one latent vector, and one rotated key for all heads."""

    latent: int = 64
    plain: int = 32
    rotated: int = 16
    value: int = 32
    intermediate: int = 192

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` holds: no layer has experts, but there is to be a number of them."""
        return self._common("DeepseekV2ForCausalLM", "deepseek_v2") | {
            "num_key_value_heads": self.heads,
            "q_lora_rank": None,
            "kv_lora_rank": self.latent,
            "qk_nope_head_dim": self.plain,
            "qk_rope_head_dim": self.rotated,
            "v_head_dim": self.value,
            "intermediate_size": self.intermediate,
            "first_k_dense_replace": self.layers,
            "moe_layer_freq": 1,
            "moe_intermediate_size": 32,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "topk_method": "greedy",
            "norm_topk_prob": False,
            "routed_scaling_factor": 1.0,
        }

    def layer(self, prefix: str) -> Iterator[tuple[str, Drawn]]:
        """A layer's weights."""
        own, heads = prefix + "self_attn.", self.heads
        yield own + "q_proj.weight", Drawn((heads * (self.plain + self.rotated), self.hidden), -8)
        yield own + "kv_a_proj_with_mqa.weight", Drawn((self.latent + self.rotated, self.hidden), -7)
        yield own + "kv_a_layernorm.weight", Drawn((self.latent,), -7, 1.0)
        yield own + "kv_b_proj.weight", Drawn((heads * (self.plain + self.value), self.latent), -7)
        yield own + "o_proj.weight", Drawn((self.hidden, heads * self.value), -11)
        yield from _dense(prefix, self.hidden, self.intermediate)


@dataclass(frozen=True, kw_only=True)
class Mixtral(Checkpoint):
    """Grouped-query attention, and a few of several experts for each token."""

    key_heads: int = 2
    intermediate: int = 64
    experts: int = 4
    chosen: int = 2

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return self._common("MixtralForCausalLM", "mixtral") | {
            "num_key_value_heads": self.key_heads,
            "head_dim": self.hidden // self.heads,
            "intermediate_size": self.intermediate,
            "num_local_experts": self.experts,
            "num_experts_per_tok": self.chosen,
            "sliding_window": None,
        }

    def layer(self, prefix: str) -> Iterator[tuple[str, Drawn]]:
        """A layer's weights."""
        yield from _grouped(prefix, self.hidden, self.heads, self.key_heads, self.hidden // self.heads, 1)
        own = prefix + "block_sparse_moe."
        yield own + "gate.weight", Drawn((self.experts, self.hidden), -11)
        for expert in range(self.experts):
            each = f"{own}experts.{expert}."
            yield each + "w1.weight", Drawn((self.intermediate, self.hidden), -8)
            yield each + "w2.weight", Drawn((self.hidden, self.intermediate), -8)
            yield each + "w3.weight", Drawn((self.intermediate, self.hidden), -8)

    def arranged(self, weights: dict[str, NDArray[np.float32]]) -> None:
        """Keep the first numbers of the hidden state for the router: only the embedding sets them."""
        own = slice(self.experts)
        order = weights["model.embed_tokens.weight"][:, own].argsort(axis=1).argsort(axis=1)
        weights["model.embed_tokens.weight"][:, own] = np.array(_AFFINITIES)[order] * 2.0**-7
        for name, weight in weights.items():
            if name.endswith((".o_proj.weight", ".w2.weight")):
                weight[own] = 0.0
            elif name.endswith(".gate.weight"):
                weight[:, own] = 2.0 * np.eye(self.experts)


@lru_cache(maxsize=8)
def _weights(model: Checkpoint) -> Weights:
    weights = {name: drawn.numbers(model.seed, name) for name, drawn in model.drawn()}
    model.arranged(weights)
    if not model.tied:
        embedding, tokens = weights["model.embed_tokens.weight"], np.arange(model.vocabulary)
        before = [(factor * tokens + shift) % model.vocabulary for factor, shift in _PREDECESSORS]
        weights["lm_head.weight"] = embedding[before[0]] + embedding[before[1]]
    for weight in weights.values():
        weight.flags.writeable = False
    return weights


def _grouped(
    prefix: str, hidden: int, heads: int, key_heads: int, head: int, louder: int = 0
) -> Iterator[tuple[str, Drawn]]:
    own = prefix + "self_attn."
    yield own + "q_proj.weight", Drawn((heads * head, hidden), -8)
    yield own + "k_proj.weight", Drawn((key_heads * head, hidden), -7)
    yield own + "v_proj.weight", Drawn((key_heads * head, hidden), -7)
    yield own + "o_proj.weight", Drawn((hidden, heads * head), -11 + louder)


def _dense(prefix: str, hidden: int, intermediate: int, louder: int = 0) -> Iterator[tuple[str, Drawn]]:
    own = prefix + "mlp."
    yield own + "gate_proj.weight", Drawn((intermediate, hidden), -8)
    yield own + "up_proj.weight", Drawn((intermediate, hidden), -8)
    yield own + "down_proj.weight", Drawn((hidden, intermediate), -9 + louder)


LLAMA = Llama(name="llama", seed=15, picks=(463, 701, 839, 930, 504, 611))
TIED = Llama(name="llama-tied", seed=2, tied=True, picks=(672, 982, 116, 1183, 49, 291))
LATENT = Latent(name="latent", seed=6, picks=(1737, 334, 736, 216, 827, 463))
MIXTRAL = Mixtral(name="mixtral", seed=2, picks=(333, 417, 20, 954, 506, 438))

CHECKPOINTS: Mapping[str, Checkpoint] = {each.name: each for each in (LLAMA, TIED, LATENT, MIXTRAL)}
"""By name."""
