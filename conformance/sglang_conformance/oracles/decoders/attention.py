"""The two kinds of attention: what a layer makes of its normed input, point by point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .arithmetic import Array, normed, projected, rotated
from .batch import Batch
from .points import Block, Columns, Everywhere, Point, Projected, Steps

Config = Mapping[str, Any]
Weights = Mapping[str, Array]


def grouped(config: Config, weights: Weights, layer: int, hidden: Array, batch: Batch) -> Steps:
    """Query heads of which several share a key head; keys and values are kept for each key head."""
    own = f"model.layers.{layer}.self_attn"
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    by_query, by_key = Block(heads, width), Block(key_heads, width)

    def turned(values: Array) -> Array:
        split = values.reshape(len(values), -1, width)
        return rotated(split, batch.positions, config["rope_theta"], paired=False).reshape(values.shape)

    merged = np.concatenate([projected(hidden, weights[f"{own}.{name}_proj.weight"]) for name in "qkv"], axis=1)
    merged = yield Point(f"{own}.qkv_proj", "linear", layer, merged, Columns((by_query, by_key, by_key)))
    q, k, v = np.split(merged, [heads * width, (heads + key_heads) * width], axis=1)
    q, k = turned(q), turned(k)
    q = yield Point(f"{own}.rotary_emb", "rope", layer, q, Columns((by_query,)), "q")
    k = yield Point(f"{own}.rotary_emb", "rope", layer, k, Columns((by_key,)), "k")
    k = yield Point(f"token_to_kv_pool.{layer}", "pool", layer, k, Columns((by_key,)), "k")
    v = yield Point(f"token_to_kv_pool.{layer}", "pool", layer, v, Columns((by_key,)), "v")
    queries, keys, values = (each.reshape(len(each), -1, width) for each in (q, k, v))
    given = batch.attended(layer, queries, keys, values, width**-0.5).reshape(len(q), -1)
    given = yield Point(f"{own}.attn", "attention", layer, given, Columns((by_query,)))
    return (yield from _output(own, weights, layer, given, by_query))


def latent(config: Config, weights: Weights, layer: int, hidden: Array, batch: Batch) -> Steps:
    """One latent vector a token, from which each head's keys and values are made, and one rotated key for all heads.

    It is told in both of SGLang's ways (0.5.23: models/deepseek_common/attention_forward_methods): heads meet the
    latent itself (``attn_mqa``), or the keys and values that are made of it (``attn_mha``).
    """
    own = f"model.layers.{layer}.self_attn"
    heads, rank = config["num_attention_heads"], config["kv_lora_rank"]
    plain, turning, wide = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    scale, rows = (plain + turning) ** -0.5, len(hidden)

    q = projected(hidden, weights[f"{own}.q_proj.weight"])
    q = yield Point(f"{own}.q_proj", "linear", layer, q, Columns((Block(heads, plain + turning),)))
    lowered = projected(hidden, weights[f"{own}.kv_a_proj_with_mqa.weight"])
    lowered = yield Point(f"{own}.kv_a_proj_with_mqa", "linear", layer, lowered)
    kept = normed(lowered[:, :rank], weights[f"{own}.kv_a_layernorm.weight"], config["rms_norm_eps"])
    kept = yield Point(f"{own}.kv_a_layernorm", "norm", layer, kept)

    # By head: what makes keys of the latent, and what makes values of it.
    raising = weights[f"{own}.kv_b_proj.weight"].reshape(heads, plain + wide, rank)
    to_keys, to_values = raising[:, :plain], raising[:, plain:]
    q_plain, q_turned = np.split(q.reshape(rows, heads, -1), [plain], axis=2)
    absorbed = (q_plain.transpose(1, 0, 2) @ to_keys).transpose(1, 0, 2)
    absorbed = yield from _by_head(f"{own}.w_kc", "linear", layer, absorbed)
    theta = config["rope_theta"]
    q_turned = rotated(q_turned, batch.positions, theta, paired=True)
    k_turned = rotated(lowered[:, None, rank:], batch.positions, theta, paired=True)
    q_turned = yield from _by_head(f"{own}.rotary_emb", "rope", layer, q_turned, "q")
    k_turned = yield from _by_head(f"{own}.rotary_emb", "rope", layer, k_turned, "k")
    entry = np.concatenate([kept[:, None], k_turned], axis=2)
    entry = yield from _by_head(f"token_to_kv_pool.{layer}", "pool", layer, entry, "latent")

    queries = np.concatenate([absorbed, q_turned], axis=2)
    taken = batch.attended(layer, queries, entry, entry[..., :rank], scale)
    taken = yield from _by_head(f"{own}.attn_mqa", "attention", layer, taken)
    raised = projected(kept, weights[f"{own}.kv_b_proj.weight"]).reshape(rows, heads, -1)
    yield from _by_head(f"{own}.kv_b_proj", "linear", layer, raised)
    given = (taken.transpose(1, 0, 2) @ to_values.transpose(0, 2, 1)).transpose(1, 0, 2)
    given = yield from _by_head(f"{own}.attn_mha", "attention", layer, given)
    return (yield from _output(own, weights, layer, given.reshape(rows, -1), Block(heads, wide)))


def _by_head(module: str, operator: str, layer: int, value: Array, output: str = "") -> Steps:
    """The point of a value ``[token, head, width]``; where there is one head for all, every rank has it."""
    rows, heads, width = value.shape
    held = Columns((Block(heads, width),)) if heads > 1 else Everywhere()
    return (yield Point(module, operator, layer, value.reshape(rows, -1), held, output)).reshape(value.shape)


def _output(own: str, weights: Weights, layer: int, given: Array, block: Block) -> Steps:
    weight = weights[f"{own}.o_proj.weight"]
    value = projected(given, weight)
    return (yield Point(f"{own}.o_proj", "linear", layer, value, Projected(given, weight, block)))
