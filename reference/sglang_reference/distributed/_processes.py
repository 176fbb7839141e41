"""What processes find out about one another, groups of a caller's own, and leaving everything."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import secrets
import tempfile
from typing import Any

import torch
import torch.distributed
from torch.distributed import ProcessGroup

from sglang_reference._errors import not_covered

from .. import platforms
from . import parallel_state as state

logger = logging.getLogger("sglang.srt.distributed.parallel_state")

_SHARED_MEMORY = "/dev/shm"


def in_the_same_node_as(pg: ProcessGroup, source_rank: int = 0) -> list[bool]:
    """For each place of the group, whether it shares its memory with the one at ``source_rank``; a collective.

    What that one puts into shared memory must be found by the other. Raises AssertionError for a group of NCCL.
    """
    assert torch.distributed.get_backend(pg) != "nccl", "memory is compared over host tensors, which NCCL does not take"
    ranks = torch.distributed.get_process_group_ranks(pg)
    rank, token = torch.distributed.get_rank(pg), secrets.token_bytes(16)
    with contextlib.ExitStack() as stack:
        parcel: list[Any] = [None]
        if rank == source_rank:
            with contextlib.suppress(OSError):
                file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="sglang-node-", dir=_SHARED_MEMORY))
                file.write(token)
                file.flush()
                parcel = [(file.name, token)]
        torch.distributed.broadcast_object_list(parcel, src=ranks[source_rank], group=pg)
        found = torch.zeros(len(ranks), dtype=torch.int32)
        found[rank] = parcel[0] is not None and _reads(*parcel[0])
        torch.distributed.all_reduce(found, group=pg)
    return [bool(one) for one in found.tolist()]


def _reads(path: str, token: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read() == token
    except OSError:
        return False


def create_custom_parallel_group(group_ranks: list[int], backend: str = "gloo") -> ProcessGroup | None:
    """The process group of the global ranks that this rank asks for; every rank of the world must ask.

    All ranks' wishes are gathered, and each group is made once, by its first rank. Raises AssertionError where
    torch.distributed is not initialized.
    """
    assert torch.distributed.is_initialized(), "torch.distributed is not initialized; init_distributed_environment does"
    wish = tuple(sorted(set(group_ranks)))
    wishes: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(wishes, wish)
    mine = None
    for ranks in sorted(dict.fromkeys(wishes), key=lambda ranks: ranks[0]):
        made = torch.distributed.new_group(ranks=list(ranks), backend=backend)
        if ranks == wish:
            mine = made
    return mine


def abort_distributed_environment() -> None:
    """Drop this rank's groups without waiting for the others, where torch can; what fails is logged."""
    abort = getattr(torch.distributed.distributed_c10d, "_abort_process_group", None)
    if abort is None or not torch.distributed.is_initialized():
        return
    try:
        abort()
    except Exception as error:
        logger.warning("the groups cannot be aborted: %s: %s", type(error).__name__, error)


def cleanup_dist_env_and_memory(shutdown_ray: bool = False) -> None:
    """Destroy all groups, collect garbage, and empty the device's cache."""
    state.destroy_model_parallel()
    state.destroy_distributed_environment()
    with contextlib.suppress(AssertionError):
        torch.distributed.destroy_process_group()
    if shutdown_ray:
        importlib.import_module("ray").shutdown()
    gc.collect()
    if not platforms.current_platform.is_cpu():
        empty = getattr(torch.get_device_module(), "empty_cache", None)
        if empty is not None:
            empty()


def get_mooncake_transfer_engine() -> Any:
    """Not covered: it is Mooncake's own. Raises NotCovered."""
    raise not_covered("sglang.srt.distributed.parallel_state.get_mooncake_transfer_engine")


_VLLM_GETTERS = ("get_pp_group", "get_tp_group", "get_world_group")


def monkey_patch_vllm_parallel_state(reverse: bool = False) -> None:
    """Let vLLM's accessors answer with SGLang's groups, or with its own again; nothing where vLLM is not installed."""
    try:
        vllm: Any = importlib.import_module("vllm.distributed.parallel_state")
    except ImportError:
        return
    for name in _VLLM_GETTERS:
        if getattr(state, f"vllm_{name}") is None:
            setattr(state, f"vllm_{name}", getattr(vllm, name))
        setattr(vllm, name, getattr(state, f"vllm_{name}") if reverse else getattr(state, name))
