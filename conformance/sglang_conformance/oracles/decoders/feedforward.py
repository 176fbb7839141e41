"""The two kinds of what stands after attention: one block for all tokens, or experts of which each token has a few."""

from __future__ import annotations

import numpy as np

from .arithmetic import Array, activated, projected, softmax
from .attention import Config, Weights
from .points import Block, Columns, Everywhere, Experts, Point, Projected, Steps


def dense(weights: Weights, layer: int, hidden: Array) -> Steps:
    """A gate and a way up, multiplied, and down again."""
    own = f"model.layers.{layer}.mlp"
    gate, up, down = (weights[f"{own}.{name}_proj.weight"] for name in ("gate", "up", "down"))
    block = Block(len(gate))
    merged = projected(hidden, np.concatenate([gate, up]))
    merged = yield Point(f"{own}.gate_up_proj", "linear", layer, merged, Columns((block, block)))
    active = activated(merged)
    active = yield Point(f"{own}.act_fn", "activation", layer, active, Columns((block,)))
    value = projected(active, down)
    return (yield Point(f"{own}.down_proj", "linear", layer, value, Projected(active, down, block)))


def sparse(config: Config, weights: Weights, layer: int, hidden: Array) -> Steps:
    """A router, and the experts that it gives a token to, by shares that add up to one."""
    own = f"model.layers.{layer}.block_sparse_moe"
    count, each = config["num_local_experts"], config["num_experts_per_tok"]
    scores = projected(hidden, weights[f"{own}.gate.weight"])
    scores = yield Point(f"{own}.gate", "router", layer, scores)
    chosen = np.argsort(-scores, axis=1, kind="stable")[:, :each]
    chosen = yield Point(f"{own}.topk", "topk", layer, chosen, Everywhere(), "ids")
    shares = softmax(np.take_along_axis(scores, chosen, axis=1))
    shares = yield Point(f"{own}.topk", "topk", layer, shares, Everywhere(), "weights")
    by_expert = [[weights[f"{own}.experts.{expert}.{w}.weight"] for w in ("w1", "w3", "w2")] for expert in range(count)]
    downs = np.stack([down for _, _, down in by_expert])
    active = np.zeros((each, len(hidden), downs.shape[2]))
    value: Array = np.zeros_like(hidden)
    for expert, (gate, up, down) in enumerate(by_expert):
        rows, choice = np.nonzero(chosen == expert)
        made = activated(projected(hidden[rows], np.concatenate([gate, up])))
        active[choice, rows] = made
        value[rows] += projected(made, down) * shares[rows, choice, None]
    held = Experts(active, chosen, shares, downs)
    value = yield Point(f"{own}.experts", "experts", layer, value, held)
    return (yield Point(own, "experts", layer, value, held))
