"""What ranks do from making groups to destroying them: checks that a rank runs, named by the tests."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import threading
from typing import Any

from reference.group_engines import Nccl
from reference.group_ranks import (
    STATE,
    initialize,
    install,
    install_with_duplicate,
    leave,
    lifetime,
    opened,
    plain,
)
from sglang_conformance.ranks.rank import Rank

_GROUPS = ("tp", "attn_cp", "attn_tp", "moe_dp", "moe_ep", "moe_tp", "pp")


def layout(rank: Rank, folder: str, release: str, sizes: dict[str, int]) -> dict[str, Any]:
    """The ranks of each of this rank's groups, and which groups are one and the same."""
    with lifetime(rank, folder, release, **sizes) as state:
        groups = {name: getattr(state, f"get_{name}_group")() for name in _GROUPS}
        names = {name: group.unique_name.partition(":")[0] for name, group in groups.items()}
        return {
            "ranks": {name: group.ranks for name, group in groups.items()},
            "names": names,
            "places": {name: group.rank_in_group for name, group in groups.items()},
        }


def timeouts(rank: Rank, folder: str, release: str, timeout: int | None) -> dict[str, list[float]]:
    """The seconds that each process group waits, by the device it is for."""
    import torch

    with lifetime(rank, folder, release, timeout, pp_size=rank.size) as state:
        groups = [state.get_world_group(), state.get_tp_group(), state.get_pp_group(), state.get_moe_ep_group()]
        return {
            kind: [
                getattr(group, f"{kind}_group")._get_backend(torch.device("cpu")).options._timeout.total_seconds()
                for group in groups
            ]
            for kind in ("device", "cpu")
        }


def cycles(rank: Rank, folder: str, release: str, count: int) -> list[dict[str, int]]:
    """What there is of everything that may leak, after one cycle and after ``count`` more."""
    install(release)
    _cycle(rank, folder)
    before = _held(rank)
    for _ in range(count):
        _cycle(rank, folder)
    return [before, _held(rank)]


def _cycle(rank: Rank, folder: str) -> None:
    import torch

    with opened(rank, folder) as state:
        state.get_tp_group().all_reduce(torch.ones(1))


def _held(rank: Rank) -> dict[str, int]:
    from torch.distributed import distributed_c10d as home

    gc.collect()
    return {
        "process groups": len(home._world.pg_map),
        "names": len(home._world.pg_names),
        "registry": len(rank.state._groups),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "python threads": threading.active_count(),
    }


def hooked(rank: Rank, folder: str, release: str) -> list[str]:
    """The hooks that are met, in order, from setting up to a collective."""
    import torch

    install(release)
    registry = importlib.import_module("sglang.srt.plugins.hook_registry")
    met: list[str] = []
    targets = ["init_world_group", "init_model_parallel_group", "get_tp_group", "inplace_all_reduce"]
    targets += ["GroupCoordinator.__init__", "GroupCoordinator.all_reduce", "GroupCoordinator.destroy"]
    for target in targets:

        def note(*args: Any, _target: str = target, **kwargs: Any) -> None:
            if _target != (met[-1] if met else ""):
                met.append(_target)

        registry.HookRegistry.register(f"{STATE}.{target}", note, registry.HookType.BEFORE)
    registry.HookRegistry.apply_hooks()
    with opened(rank, folder) as state:
        distributed = importlib.import_module("sglang.srt.distributed")
        distributed.tensor_model_parallel_all_reduce(torch.ones(2))
        state.get_tp_group().quant_all_reduce(torch.ones(2))
        state.get_tensor_model_parallel_rank()
    return met


def refusals(rank: Rank, folder: str, release: str) -> dict[str, str]:
    """What is refused before, between and after, by the type of the error."""
    state = rank.state = install(release)
    found = {"get_tp_group": _error(state.get_tp_group), "uninitialized": _error(state.initialize_model_parallel)}
    method = f"file://{folder}/{rank.meeting}"
    first = (rank.size, rank.number, method, rank.number, "gloo")
    found["timeout 0"] = _error(state.init_distributed_environment, *first, 0)
    found["timeout 1.5"] = _error(state.init_distributed_environment, *first, 1.5)
    found["no method"] = _error(state.init_distributed_environment, rank.size, rank.number, None)
    state.init_distributed_environment(*first)
    found["wrong world"] = _error(initialize, rank, tp_size=rank.size + 1)
    if release != "0.5.11":
        found["decode context"] = _error(initialize, rank, tp_size=rank.size, attn_dcp_size=rank.size)
    leave(state)
    rank.meeting += "+"
    with lifetime(rank, folder, release) as state:
        found["again"] = _error(initialize, rank, tp_size=rank.size)
        found["foreign ranks"] = _error(state.init_world_group, [rank.size + 5], 0, "gloo")
        with state.patch_tensor_parallel_group(state.get_pp_group(), **_owner(release)):
            found["patched"] = _error(_patch_again, state, release)
        name = state.get_tp_group().unique_name
    found["destroyed"] = _error(state.inplace_all_reduce, None, group_name=name)
    found["unknown"] = _error(state.inplace_all_reduce, None, group_name="nobody:0")
    return found


def _owner(release: str) -> dict[str, bool]:
    return {} if release == "0.5.11" else {"owns_attention": True}


def _patch_again(state: Any, release: str) -> None:
    with state.patch_tensor_parallel_group(state.get_pp_group(), **_owner(release)):
        pass


def _error(function: Any, *args: Any, **kwargs: Any) -> str:
    try:
        function(*args, **kwargs)
    except Exception as error:
        return type(error).__name__
    return ""


def patched(rank: Rank, folder: str, release: str) -> list[list[int]]:
    """The sizes of tensor parallelism before, inside and after a scope in which the pipeline stands for it."""
    with lifetime(rank, folder, release) as state:
        seen = []

        def note() -> None:
            size, place = state.get_tensor_model_parallel_world_size(), state.get_tensor_model_parallel_rank()
            seen.append([size, place, len(state._TP.ranks)])

        note()
        with state.patch_tensor_parallel_group(state.get_pp_group(), **_owner(release)):
            note()
        note()
        return seen


def decode_context(rank: Rank, folder: str) -> list[Any]:
    """The groups of decode context and of shared experts, on a device that may have them."""
    install("0.5.23")
    vars(importlib.import_module("sglang.srt.distributed._model_parallel"))["can_part_decode_context"] = lambda: True
    sizes = {"tp_size": rank.size, "attn_dcp_size": 2, "shared_experts_tp_size": 2}
    with opened(rank, folder, **sizes) as state:
        groups = [state.get_dcp_group(), state.get_shared_experts_tp_group(), state.get_self_pp_group()]
        return [*(group.ranks for group in groups), state.get_dcp_world_size(), state.get_dcp_rank()]


def duplicate(rank: Rank, folder: str, release: str) -> list[str]:
    """The group that stands for tensor parallelism before, while and after the duplicate for prefill does."""
    state = install_with_duplicate(release)
    with opened(rank, folder):
        seen = [state.get_tp_group().unique_name]
        with contextlib.ExitStack() as stack:
            if release == "0.5.11":
                state.set_pdmux_status(True)
                stack.callback(state.set_pdmux_status, False)
            else:
                stack.enter_context(state.pdmux_prefill_tp_group())
            seen.append(state.get_tp_group().unique_name)
        return [*seen, state.get_tp_group().unique_name]


def captured(rank: Rank, folder: str, release: str) -> dict[str, Any]:
    """Which groups' communicators are enabled while a graph is captured over all of them, and after."""
    with lifetime(rank, folder, release, tp_size=2, pp_size=2, moe_ep_size=2) as state:
        groups = {name: getattr(state, f"get_{name}_group")() for name in ("tp", "pp", "moe_ep", "moe_tp", "moe_dp")}
        for group in groups.values():
            group.pynccl_comm = Nccl(group)
        with state.graph_capture() as context:
            inside = {name: not group.pynccl_comm.disabled for name, group in groups.items()}
            stream = context.stream is not None
        after = {name: not group.pynccl_comm.disabled for name, group in groups.items()}
        for group in groups.values():
            group.pynccl_comm = None
        return {"stream": stream, "inside": inside, "after": after}


def staged(rank: Rank, folder: str, release: str) -> Any:
    """What the second stage has of the first's dictionary, each tensor sent in parts where it can be parted."""
    import torch

    with lifetime(rank, folder, release, tp_size=2, pp_size=2) as state:
        stage, parts = state.get_pp_group(), state.get_tp_group()
        if stage.is_first_rank:
            even, odd = torch.arange(6.0).reshape(3, 2), torch.arange(3)
            stage.send_tensor_dict({"even": even, "odd": odd, "n": rank.number}, all_gather_group=parts)
            return None
        return plain(stage.recv_tensor_dict(all_gather_group=parts))


def shared_objects(rank: Rank, folder: str) -> list[Any]:
    """What every rank has of the objects that the first one sends over attention's groups."""
    with lifetime(rank, folder, "0.5.23", tp_size=4, attn_cp_size=2):
        operations = importlib.import_module("sglang.srt.distributed.communication_op")
        found: list[Any] = operations.attn_cp_tp_broadcast_pyobj([{"request": 7}, "x"] if rank.number == 0 else [])
        return found


def local_ranks(rank: Rank, folder: str) -> list[int]:
    """The local rank: given, the rank itself, and from the environment."""
    import torch.distributed as dist

    state = install("0.5.23")
    found: list[int] = []
    for local, method in ((5, ""), (-1, ""), (-1, "env://")):
        meeting = f"file://{folder}/{rank.meeting}{len(found)}"
        if method:  # where ranks have met already, the method only says where the local rank is
            dist.init_process_group("gloo", init_method=meeting, rank=rank.number, world_size=rank.size)
        state.init_distributed_environment(rank.size, rank.number, method or meeting, local, "gloo")
        found.append(state.get_world_group().local_rank)
        leave(state)
    return found


def simulated(rank: Rank, folder: str, release: str) -> dict[str, Any]:
    """Collectives on the simulated accelerator's tensors, over its backend."""
    import torch

    rank.state = state = install(release)
    platform = importlib.import_module("sglang_simulated.platform").SimSRTPlatform()
    vars(importlib.import_module("sglang.srt.platforms"))["_current_platform"] = platform
    platform.init_backend()
    backend = platform.get_torch_distributed_backend_str()
    method = f"file://{folder}/{rank.meeting}"
    state.init_distributed_environment(rank.size, rank.number, method, rank.number, backend)
    initialize(rank, tp_size=rank.size)
    group = state.get_tp_group()
    mine = torch.full((2,), 2.0**rank.number).to(f"sim:{rank.number}")
    found = {
        "device": str(group.device),
        "all_gather": plain(group.all_gather(mine, dim=0).cpu()),
        "all_gatherv": plain(group.all_gatherv(mine, sizes=[2] * rank.size)[0].cpu()),
        "broadcast_tensor_dict": plain(
            group.broadcast_tensor_dict({"a": mine} if rank.number == 0 else None)["a"].cpu()
        ),
        "same": group.all_reduce(mine) is mine,
        "all_reduce": plain(mine.cpu()),
        "engine": group.explain_all_reduce(mine).engine,
    }
    state.destroy_model_parallel()
    state.destroy_distributed_environment()
    return found
