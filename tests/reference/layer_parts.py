"""Layers as one rank of several sees them, without a group: sizes and ranks are stated, the test takes the sums."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from sglang_reference._releases import within

NAMES = {
    "tp": "tensor_model_parallel",
    "attn_tp": "attn_tensor_model_parallel",
    "moe_ep": "moe_expert_parallel",
    "moe_tp": "moe_tensor_parallel",
}


def state(monkeypatch: pytest.MonkeyPatch, release: str, **parts: tuple[int, int]) -> None:
    """Have this process be a rank: (rank, size) by kind of parallelism, and alone in each that is not given."""
    parts = {name: parts.get(name, (0, 1)) for name in NAMES}
    if within(release, "0.5.21"):
        parallel = importlib.import_module("sglang.srt.runtime_context").get_parallel()
        parallel.clear_stamp()
        values = {f"{name}_{what}": part[n] for name, part in parts.items() for n, what in enumerate(("rank", "size"))}
        monkeypatch.setattr(parallel, "_stamp", values)
        return
    groups = importlib.import_module("sglang.srt.distributed.parallel_state")
    for name, part in parts.items():
        for number, what in enumerate(("rank", "world_size")):
            monkeypatch.setattr(groups, f"get_{NAMES[name]}_{what}", lambda value=part[number]: value)


def load(param: Any, weight: torch.Tensor, *which: Any) -> None:
    """Load a checkpoint's weight as a model does."""
    param.weight_loader(param, weight, *which)
