"""Model runners on ranks of the simulated device, whose platform says what it was asked."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reference import runner_rig
from reference.group_ranks import STATE, leave
from sglang_conformance.ranks.rank import Rank

ASKED = (
    "init_backend",
    "apply_server_args_defaults",
    "get_default_attention_backend",
    "support_cuda_graph",
    "get_device_total_memory",
    "get_current_memory_usage",
    "get_graph_runner_cls",
    "get_full_graph_backend_cls",
    "get_kv_pool_cls",
    "get_mha_kv_pool_cls",
    "get_paged_allocator_cls",
    "post_load_model",
    "synchronize",
    "empty_cache",
)


def platform(asked: list[str], runner: str = "", without_graphs: bool = False) -> Any:
    """The simulated platform; ``runner``: what it gives for its graph runner, if not its own."""
    base: Any = importlib.import_module("sglang_simulated.platform").SimSRTPlatform
    members: dict[str, Any] = {}

    def listening(name: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            if name == "get_graph_runner_cls" and runner:
                return None if runner == "none" else _attribute(runner)
            if name == "support_cuda_graph" and without_graphs:
                return False
            return getattr(base, name)(self, *args, **kwargs)

        return call

    for name in ASKED:
        if hasattr(base, name):
            members[name] = listening(name)
    if without_graphs and hasattr(base, "capabilities"):
        members["capabilities"] = type(base.capabilities)()
    return type("Listening", (base,), members)()


@contextmanager
def entered(rank: Rank, folder: str, release: str, **how: Any) -> Iterator[list[str]]:
    """A release whose platform is the simulated one, with its hooks; what it was asked."""
    os.environ["SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE"] = f"file://{folder}/{rank.meeting}"
    install(release)
    asked: list[str] = []
    importlib.import_module("sglang.srt.platforms")._current_platform = platform(asked, **how)  # type: ignore[attr-defined]
    importlib.import_module("sglang_simulated.hooks").register()
    state = importlib.import_module(STATE)
    importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry.apply_hooks()
    try:
        yield asked
    finally:
        if state._WORLD is not None:
            leave(state)
        rank.meeting += "+"


def decoded(
    rank: Rank,
    folder: str,
    release: str,
    model: str,
    prompts: Sequence[Sequence[int]],
    steps: int,
    given: dict[str, Any],
    **how: Any,
) -> dict[str, Any]:
    """Greedy continuations, and how the runner came to them."""
    logging.disable(logging.WARNING)
    with entered(rank, folder, release, **how) as asked:
        made = runner_rig.runner(runner_rig.server_args(Path(model), device="sim", **given), rank.number)
        started = list(asked)
        batch = runner_rig.Batch(made, prompts)
        batch.prefill()
        for _ in range(steps):
            batch.decode()
        graphs = made.graph_runner if hasattr(made, "graph_runner") else made.decode_cuda_graph_runner
        return {
            "tokens": batch.tokens,
            "logits": batch.logits.tolist(),
            "graphs": batch.graphs,
            "sizes": getattr(graphs, "capture_bs", None),
            "runner": type(graphs).__name__,
            "asked": started,
        }


def install(release: str) -> None:
    """The reference of a release; nothing of it is imported yet, as that would choose a platform."""
    import sglang_reference
    from sglang_conformance.contract import tables

    warnings.simplefilter("ignore", DeprecationWarning)
    sglang_reference.uninstall()
    arguments = tables.load_server_args_before(release).to_json()
    sglang_reference.install(tables.load(release).to_json(), arguments)


def _attribute(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
