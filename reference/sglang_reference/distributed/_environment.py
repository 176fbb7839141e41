"""Setting up the environment of all ranks, and single groups with what the release's constructor takes.

Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/parallel_state.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from sglang_reference._errors import not_covered

from .._contract import since
from .._released import Lifetime, Parameters, Renamed, released
from . import parallel_state as state
from ._devices import wants_pynccl
from ._group import CONSTRUCTOR

if TYPE_CHECKING:
    from .parallel_state import GroupCoordinator

logger = logging.getLogger("sglang.srt.distributed.parallel_state")

ELASTIC = {"rank_offset": Lifetime("0.5.16"), "max_world_size": Lifetime("0.5.16")}
"""The parameters with which ranks join later, of several functions."""

MODEL_PARALLEL_GROUP = Parameters(
    lifetimes=ELASTIC, renamed={"use_mscclpp": Renamed("use_mscclpp_allreduce", until="0.5.21")}
)


@released(Parameters(lifetimes={"max_world_size": Lifetime("0.5.16")}))
def init_distributed_environment(
    world_size: int = -1,
    rank: int = -1,
    distributed_init_method: str = "env://",
    local_rank: int = -1,
    backend: str = "nccl",
    timeout: int | None = None,
    moe_a2a_backend: str | None = None,
    recovered_rank: bool = False,
    max_world_size: int | None = None,
) -> None:
    """Open the group of all ranks, where torch.distributed is not initialized yet, and the world's GroupCoordinator.

    ``timeout`` is in whole seconds, for this and for the device's groups of every kind; it is not used where
    torch.distributed is initialized already. Without ``local_rank`` it is ``LOCAL_RANK`` (``env://``), or the rank.
    Raises AssertionError for a timeout that is none, and where the world has another size than before.
    """
    logger.debug("rank %d of %d (local %d) by %s, %s", rank, world_size, local_rank, distributed_init_method, backend)
    if not torch.distributed.is_initialized():
        assert distributed_init_method is not None, "distributed_init_method says how ranks meet, and must be given"
        if "mooncake" in backend or moe_a2a_backend == "nixl":
            raise not_covered(f"groups with {'mooncake' if 'mooncake' in backend else 'nixl'}")
        state._MODEL_PARALLEL_GROUP_TIMEOUT = _duration(timeout)
        torch.distributed.init_process_group(
            backend=backend,
            init_method=distributed_init_method,
            world_size=world_size,
            rank=rank,
            timeout=state._MODEL_PARALLEL_GROUP_TIMEOUT,
            pg_options=state.get_torch_distributed_pg_options(),
        )
    size = torch.distributed.get_world_size()
    if local_rank == -1:
        local_rank = int(os.environ.get("LOCAL_RANK", "0")) if distributed_init_method == "env://" else rank
    if state._WORLD is None:
        state._WORLD = _open_world(list(range(size)), local_rank, backend, recovered_rank, max_world_size)
    assert state._WORLD.world_size == size, "world group already initialized with a different world size"
    publish(world_group=state._WORLD)


def _open_world(
    ranks: list[int], local_rank: int, backend: str, recovered_rank: bool, max_world_size: int | None
) -> GroupCoordinator:
    """Call as SGLang does: by position before 0.5.20, by keyword from then on, which is what a hook is given."""
    if not since("0.5.20"):
        return state.init_world_group(ranks, local_rank, backend, recovered_rank=recovered_rank)
    return state.init_world_group(
        ranks=ranks,
        local_rank=local_rank,
        backend=backend,
        recovered_rank=recovered_rank,
        max_world_size=max_world_size,
    )


def _duration(timeout: int | None) -> timedelta | None:
    if timeout is None:
        return None
    assert isinstance(timeout, int), f"timeout must be a whole number of seconds, not {timeout!r}"
    assert timeout > 0, f"timeout must be at least one second, not {timeout}"
    return timedelta(seconds=timeout)


def publish(**values: Any) -> None:
    """State groups in the context, in releases that have one."""
    if since("0.5.21"):
        from ..runtime_context import get_parallel

        get_parallel().override_permanently(**values)


@released(Parameters(lifetimes={"max_world_size": Lifetime("0.5.20")}))
def init_world_group(
    ranks: list[int], local_rank: int, backend: str, recovered_rank: bool = False, max_world_size: int | None = None
) -> GroupCoordinator:
    """A group of these ranks without any engine."""
    return _make_group([ranks], local_rank, backend, {}, "world", recovered_rank, max_world_size=max_world_size)


@released(MODEL_PARALLEL_GROUP)
def init_model_parallel_group(
    group_ranks: list[list[int]],
    local_rank: int,
    backend: str,
    use_pynccl: bool | None = None,
    use_custom_allreduce: bool | None = None,
    use_message_queue_broadcaster: bool = False,
    group_name: str | None = None,
    use_mscclpp: bool | None = None,
    use_torch_symm_mem_allreduce: bool | None = None,
    recovered_rank: bool = False,
    rank_offset: int = 0,
    max_world_size: int | None = None,
) -> GroupCoordinator:
    """The groups of one kind, of which this rank's is returned; an engine that is not spoken of is as it is set."""

    def either(wish: bool | None, otherwise: bool) -> bool:
        return otherwise if wish is None else wish

    engines = {
        "use_pynccl": wants_pynccl(backend) if use_pynccl is None else use_pynccl,
        "use_mscclpp": either(use_mscclpp, state._ENABLE_MSCCLPP),
        "use_custom_allreduce": either(use_custom_allreduce, state._ENABLE_CUSTOM_ALL_REDUCE),
        "use_torch_symm_mem_all_reduce": either(use_torch_symm_mem_allreduce, state._ENABLE_TORCH_SYMM_MEM_ALL_REDUCE),
        "use_hpu_communicator": True,
        "use_xpu_communicator": True,
        "use_npu_communicator": True,
        "use_message_queue_broadcaster": use_message_queue_broadcaster,
    }
    return _make_group(
        group_ranks, local_rank, backend, engines, group_name, recovered_rank, rank_offset, max_world_size
    )


_NO_ENGINES = dict.fromkeys(
    (
        "use_pynccl",
        "use_mscclpp",
        "use_custom_allreduce",
        "use_torch_symm_mem_all_reduce",
        "use_hpu_communicator",
        "use_xpu_communicator",
        "use_npu_communicator",
    ),
    False,
)


def _make_group(
    group_ranks: list[list[int]],
    local_rank: int,
    backend: str,
    engines: Mapping[str, bool],
    group_name: str | None,
    recovered_rank: bool,
    rank_offset: int = 0,
    max_world_size: int | None = None,
) -> GroupCoordinator:
    """Call the constructor with the keywords that the table's release gives it."""
    arguments: dict[str, Any] = {
        "group_ranks": group_ranks,
        "local_rank": local_rank,
        "torch_distributed_backend": backend,
        **_NO_ENGINES,
        **engines,
        "group_name": group_name,
        "recovered_rank": recovered_rank,
        "rank_offset": rank_offset,
        "max_world_size": max_world_size,
    }
    return state.GroupCoordinator(**CONSTRUCTOR.named(arguments))
