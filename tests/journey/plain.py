"""The tiny models once more, in plain torch and a type of few digits: numbers as right platforms have them, and wrong
ones.

Values are rounded to the type after each operator, as SGLang's operators do; sums are taken in another order, or in
parts that are rounded and added, as ranks do it. A fault is one operator done wrong, for all tokens or the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

FAULTS = (
    "eps",
    "no rope",
    "late position",
    "dropped token",
    "early token",
    "other layer's keys",
    "no scale",
    "no norm weight",
    "no residual",
    "gate and up exchanged",
    "half a sum",
)


@dataclass(frozen=True)
class Plain:
    """A model; ``parts`` is how many ranks' sums are added, ``order`` the seed by which summands are shuffled."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    dtype: torch.dtype
    parts: int = 1
    order: int = 0
    fault: str = ""
    seen: dict[str, Tensor] = field(default_factory=dict)

    def logits(self, tokens: list[int]) -> Tensor:
        """``[token, vocabulary]``; what each operator gave is in ``seen``, by the oracle's names."""
        c, w = self.config, self.weights
        residual = self._see("model.embed_tokens", w["model.embed_tokens.weight"][torch.tensor(tokens)])
        kept: list[tuple[Tensor, Tensor]] = []
        for layer in range(c["num_hidden_layers"]):
            own = f"model.layers.{layer}."
            attend = self._latent if c.get("kv_lora_rank") else self._grouped
            self._see(own + "input_layernorm:residual", residual)
            given = attend(own + "self_attn.", self._norm(residual, own + "input_layernorm"), kept)
            residual = given if self._is("no residual") and layer else residual + given
            self._see(own + "post_attention_layernorm:residual", residual)
            hidden = self._norm(residual, own + "post_attention_layernorm")
            residual = residual + (
                self._sparse(own + "block_sparse_moe", hidden)
                if c.get("num_local_experts")
                else self._dense(own + "mlp.", hidden)
            )
        hidden = self._norm(self._see("model.norm:residual", residual), "model.norm")
        head = "model.embed_tokens" if c["tie_word_embeddings"] else "lm_head"
        return self._see("logits_processor", self._linear(hidden, head))

    def _see(self, name: str, values: Tensor) -> Tensor:
        self.seen[name] = values.flatten(1)
        return values

    def _is(self, fault: str) -> bool:
        return self.fault == fault

    def _sum(self, values: Tensor, weight: Tensor) -> Tensor:
        """A product in a shuffled order of its summands."""
        order = torch.randperm(values.shape[-1], generator=torch.Generator().manual_seed(self.order))
        return values[..., order] @ weight[..., order].T

    def _linear(self, values: Tensor, name: str) -> Tensor:
        return self._sum(values, self.weights[name + ".weight"])

    def _down(self, name: str, values: Tensor) -> Tensor:
        """A product whose summands are parted among ranks."""
        weight = self.weights[name + ".weight"]
        width = values.shape[-1] // self.parts
        cuts = [slice(part * width, (part + 1) * width) for part in range(self.parts)]
        sums = [self._sum(values[:, cut], weight[:, cut]) for cut in cuts]
        if self._is("half a sum"):
            half = slice(0, values.shape[-1] // 2)
            return self._sum(values[:, half], weight[:, half])
        total = sums[0]
        for each in sums[1:]:
            total = total + each
        return total

    def _norm(self, values: Tensor, name: str) -> Tensor:
        wide = values.float()
        eps = 1e-6 if self._is("eps") else self.config["rms_norm_eps"]
        scaled = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(self.dtype)
        if not (self._is("no norm weight") and "layers.1.input" in name):
            scaled = scaled * self.weights[name + ".weight"]
        return self._see(name, scaled)

    def _rope(self, values: Tensor, paired: bool) -> Tensor:
        """Of ``[token, head, width]``."""
        if self._is("no rope"):
            return values
        tokens, _, width = values.shape
        positions = torch.arange(tokens).float()
        if self._is("late position"):
            positions[-1] += 1
        angles = positions[:, None] * self.config["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)
        cos, sin = (each[:, None].to(self.dtype) for each in (angles.cos(), angles.sin()))
        first, second = (values[..., 0::2], values[..., 1::2]) if paired else values.chunk(2, -1)
        turned = first * cos - second * sin, second * cos + first * sin
        return torch.stack(turned, -1).flatten(-2) if paired else torch.cat(turned, -1)

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, scale: float, kept: list[tuple[Tensor, Tensor]]) -> Tensor:
        kept.append((k, v))
        if self._is("other layer's keys") and len(kept) > 1:
            (k, v), past = (k.clone(), v.clone()), kept[0]
            k[:-1], v[:-1] = past[0][:-1], past[1][:-1]
        served = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(served, 1), v.repeat_interleave(served, 1)
        scores = torch.einsum("qhd,khd->hqk", q.float(), k.float()) * (1.0 if self._is("no scale") else scale)
        later = torch.ones(len(q), len(q), dtype=torch.bool).triu(1)
        if self._is("dropped token"):
            later[-1, -1] = True
        if self._is("early token"):
            later[-1, 0] = True
        shares = scores.masked_fill(later, float("-inf")).softmax(-1).to(self.dtype)
        return torch.einsum("hqk,khd->qhd", shares, v).flatten(1)

    def _grouped(self, own: str, hidden: Tensor, kept: list[tuple[Tensor, Tensor]]) -> Tensor:
        c = self.config
        width = c["head_dim"]
        merged = [self._linear(hidden, f"{own}{name}_proj") for name in "qkv"]
        self._see(own + "qkv_proj", torch.cat(merged, -1))
        q, k, v = (each.reshape(len(hidden), -1, width) for each in merged)
        q, k = self._turned(own, q, k, False)
        given = self._see(own + "attn", self._attended(q, k, v, width**-0.5, kept))
        return self._see(own + "o_proj", self._down(own + "o_proj", given))

    def _turned(self, own: str, q: Tensor, k: Tensor, paired: bool) -> tuple[Tensor, Tensor]:
        name = own + "rotary_emb:"
        return self._see(name + "q", self._rope(q, paired)), self._see(name + "k", self._rope(k, paired))

    def _latent(self, own: str, hidden: Tensor, kept: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Absorbed: heads meet the latent."""
        c = self.config
        heads, rank, plain = c["num_attention_heads"], c["kv_lora_rank"], c["qk_nope_head_dim"]
        width = plain + c["qk_rope_head_dim"]
        q = self._see(own + "q_proj", self._linear(hidden, own + "q_proj")).reshape(len(hidden), heads, width)
        lowered = self._see(own + "kv_a_proj_with_mqa", self._linear(hidden, own + "kv_a_proj_with_mqa"))
        latent = self._norm(lowered[:, :rank], own + "kv_a_layernorm")
        raising = self.weights[own + "kv_b_proj.weight"].reshape(heads, -1, rank)
        absorbed = self._see(own + "w_kc", torch.einsum("thp,hpr->thr", q[..., :plain], raising[:, :plain]))
        q_turned, k_turned = self._turned(own, q[..., plain:], lowered[:, None, rank:], True)
        entry = torch.cat([latent[:, None], k_turned], -1)
        query = torch.cat([absorbed, q_turned], -1)
        taken = self._see(own + "attn_mqa", self._attended(query, entry, latent[:, None], width**-0.5, kept))
        given = torch.einsum("thr,hvr->thv", taken.reshape(len(hidden), heads, rank), raising[:, plain:])
        return self._see(own + "o_proj", self._down(own + "o_proj", given.flatten(1)))

    def _dense(self, own: str, hidden: Tensor) -> Tensor:
        active = self._see(own + "act_fn", self._gated(own, hidden, "gate_proj", "up_proj"))
        return self._see(own + "down_proj", self._down(own + "down_proj", active))

    def _gated(self, own: str, hidden: Tensor, *names: str) -> Tensor:
        gate, up = (self._linear(hidden, own + name) for name in names)
        if self._is("gate and up exchanged") and "layers.1." in own:
            gate, up = up, gate
        return torch.nn.functional.silu(gate) * up

    def _sparse(self, own: str, hidden: Tensor) -> Tensor:
        scores = self._see(own + ".gate", self._linear(hidden, own + ".gate")).float().softmax(-1)
        shares, chosen = scores.topk(self.config["num_experts_per_tok"])
        shares = shares / shares.sum(-1, keepdim=True)
        self._see(own + ".topk:ids", chosen)
        self._see(own + ".topk:weights", shares)
        total = torch.zeros_like(hidden)
        for expert in range(self.config["num_local_experts"]):
            each = f"{own}.experts.{expert}."
            given = self._down(each + "w2", self._gated(each, hidden, "w1", "w3"))
            share = (shares * (chosen == expert)).sum(-1, keepdim=True)
            total = total + (given * share).to(self.dtype)
        return self._see(own + ".experts", total)


def of(config: Mapping[str, Any], weights: Mapping[str, Any], dtype: torch.dtype, **rest: Any) -> Plain:
    """A model whose weights are arrays."""
    return Plain(config, {n: torch.tensor(w).to(dtype) for n, w in weights.items()}, dtype, **rest)
