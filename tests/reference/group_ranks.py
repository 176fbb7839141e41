"""Ranks that use the reference's groups: a pool of them, and how they are made ready.

A tensor travels as ``{"tensor": nested lists, "dtype": name}``, and comes back with its shape.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from import_path import REFERENCE, SIMULATED, TESTS, import_path
from sglang_conformance.probes import client
from sglang_conformance.ranks.group import Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.rank import Rank

_MODULES = (
    "torch",
    "torch.distributed",
    "reference.group_calls",
    "reference.group_lifetimes",
    "sglang_reference",
    "sglang_conformance.contract.tables",
)
STATE = "sglang.srt.distributed.parallel_state"
_BEFORE_0_5_21 = {
    "tp_size": "tensor_model_parallel_size",
    "pp_size": "pipeline_model_parallel_size",
    "attn_dp_size": "attention_data_parallel_size",
    "attn_cp_size": "attention_context_model_parallel_size",
    "moe_ep_size": "expert_model_parallel_size",
    "moe_dp_size": "moe_data_model_parallel_size",
}


@contextlib.contextmanager
def ranks(setup: str = "", **arguments: Any) -> Iterator[Pool]:
    """A pool of ranks that a function of this module makes ready."""
    path = import_path(TESTS, REFERENCE, SIMULATED)
    zygote = client.start(_MODULES, {"PYTHONPATH": path, "SGLANG_USE_CPU_ENGINE": "1", "LOCAL_RANK": "6"})
    warm = client.connect(zygote.address)
    pool = Pool(warm, Setup(f"reference.group_ranks:{setup}" if setup else "", arguments))
    try:
        yield pool
    finally:
        pool.close()
        warm.close()
        zygote.close()


def install(release: str) -> Any:
    """The module of the groups, of the reference that follows ``release``."""
    import sglang_reference
    from sglang_conformance.contract import tables

    warnings.simplefilter("ignore", DeprecationWarning)
    sglang_reference.uninstall()
    sglang_reference.install(tables.load(release).to_json(), lambda: tables.load_server_args_before(release).to_json())
    return importlib.import_module(STATE)


def join(rank: Rank, folder: str, release: str = "0.5.23") -> Any:
    """All ranks in one group of tensor parallelism."""
    rank.state = install(release)
    open_groups(rank, folder)
    return rank.state


def open_groups(rank: Rank, folder: str, timeout: int | None = None, **sizes: int) -> None:
    """The world, and the groups of these sizes; without any, tensor parallelism over all ranks."""
    meeting = f"file://{folder}/{rank.meeting}"
    rank.state.init_distributed_environment(rank.size, rank.number, meeting, rank.number, "gloo", timeout)
    initialize(rank, **(sizes or {"tp_size": rank.size}))


def initialize(rank: Rank, **sizes: int) -> None:
    """Make the groups, in the way of the release."""
    if "tensor_model_parallel_size" in inspect.signature(rank.state.initialize_model_parallel).parameters:
        rank.state.initialize_model_parallel(**{_BEFORE_0_5_21[name]: size for name, size in sizes.items()})
        return
    context = importlib.import_module("sglang.srt.runtime_context")
    given = dict.fromkeys([*_BEFORE_0_5_21, "attn_dcp_size"], 1)
    context.get_parallel().override_permanently(**given | {"shared_experts_tp_size": None} | sizes)
    rank.state.initialize_model_parallel()


@contextlib.contextmanager
def opened(rank: Rank, folder: str, timeout: int | None = None, **sizes: int) -> Iterator[Any]:
    """The groups, from first to last; they meet at a new place each time."""
    rank.state = importlib.import_module(STATE)
    open_groups(rank, folder, timeout, **sizes)
    yield rank.state
    leave(rank.state)
    rank.meeting += "+"


def leave(state: Any) -> None:
    """Destroy the groups, once every rank has made its own: gloo fails in one that still joins when a peer has left."""
    import torch.distributed as dist

    dist.barrier()
    state.destroy_model_parallel()
    state.destroy_distributed_environment()


@contextlib.contextmanager
def lifetime(rank: Rank, folder: str, release: str, timeout: int | None = None, **sizes: int) -> Iterator[Any]:
    """The groups of a release, from first to last."""
    install(release)
    with opened(rank, folder, timeout, **sizes) as state:
        yield state


def install_with_duplicate(release: str) -> Any:
    """A release whose groups are opened with the duplicate of tensor parallelism's, for prefill."""
    state = install(release)
    state.initialize_model_parallel = functools.partial(state.initialize_model_parallel, duplicate_tp_group=True)
    return state


def told(value: Any) -> Any:
    """Tensors from plain data."""
    import torch

    if isinstance(value, Mapping) and "tensor" in value:
        tensor = torch.tensor(value["tensor"], dtype=getattr(torch, value.get("dtype", "float32")))
        tensor = tensor.reshape(value["shape"]) if "shape" in value else tensor
        return tensor.t() if value.get("transposed") else tensor
    if isinstance(value, Mapping):
        return {key: told(each) for key, each in value.items()}
    return [told(each) for each in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """Plain data from tensors."""
    import torch

    if isinstance(value, torch.Tensor):
        return {"shape": list(value.shape), "values": value.tolist(), "dtype": str(value.dtype)[6:]}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value
