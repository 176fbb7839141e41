"""The host's distributed set-up behind one face, whatever the release calls its sizes.

Used in ranks, where the host is entered. Facts: SGLang 0.5.11 and 0.5.23, srt/distributed/parallel_state.py.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from . import bare, lacking

STATE = "sglang.srt.distributed.parallel_state"

_COMMUNICATORS = tuple(
    f"sglang.srt.distributed.device_communicators.{name}" for name in ("custom_all_reduce", "pynccl")
)
"""What each group imports when it is made: in the reference that takes longer than all the rest of it."""

# Our names of the sizes (the oracle's too): SGLang's parameters up to 0.5.20, its context's fields from 0.5.21.
SIZES: Mapping[str, tuple[str, str]] = {
    "tp": ("tensor_model_parallel_size", "tp_size"),
    "pp": ("pipeline_model_parallel_size", "pp_size"),
    "attn_dp": ("attention_data_parallel_size", "attn_dp_size"),
    "attn_cp": ("attention_context_model_parallel_size", "attn_cp_size"),
    "moe_ep": ("expert_model_parallel_size", "moe_ep_size"),
    "moe_dp": ("moe_data_model_parallel_size", "moe_dp_size"),
    "dcp": ("decode_context_parallel_size", "attn_dcp_size"),
}

ACCESSORS: Mapping[str, str] = {
    "world": "get_world_group",
    "tp": "get_tp_group",
    "pp": "get_pp_group",
    "attention_tp": "get_attn_tp_group",
    "attn_cp": "get_attn_cp_group",
    "moe_ep": "get_moe_ep_group",
    "moe_dp": "get_moe_dp_group",
    "moe_tp": "get_moe_tp_group",
    "dcp": "get_dcp_group",
}
"""The function that gives the group of each kind, by the name that SGLang gives its groups."""

NUMBERS: Mapping[str, tuple[str, str]] = {
    "world": ("get_world_rank", "get_world_size"),
    "tp": ("get_tensor_model_parallel_rank", "get_tensor_model_parallel_world_size"),
    "pp": ("get_pipeline_model_parallel_rank", "get_pipeline_model_parallel_world_size"),
    "attention_tp": ("get_attn_tensor_model_parallel_rank", "get_attn_tensor_model_parallel_world_size"),
    "attn_cp": ("get_attn_context_model_parallel_rank", "get_attn_context_model_parallel_world_size"),
    "moe_ep": ("get_moe_expert_parallel_rank", "get_moe_expert_parallel_world_size"),
    "moe_dp": ("get_moe_data_parallel_rank", "get_moe_data_parallel_world_size"),
    "moe_tp": ("get_moe_tensor_parallel_rank", "get_moe_tensor_parallel_world_size"),
    "dcp": ("get_dcp_rank", "get_dcp_world_size"),
}
"""The functions that give a rank's place in its group of each kind, and the group's size."""


class NotCovered(ImportError):
    """The host makes no groups in this environment: by this name the kit reports it as blocked."""


def load() -> None:
    """Import what the host's groups need, as far as it is here, so that no rank has to."""
    state()
    bare.load()
    if "sglang_reference" in sys.modules:
        for name in _COMMUNICATORS:
            with contextlib.suppress(ImportError):  # a release that the reference does not cover in this
                importlib.import_module(name)


def state() -> Any:
    """The host's module; its functions are looked up there at each call, as a hook may have replaced them.

    Raises NotCovered where it does not import for want of a package.
    """
    try:
        return importlib.import_module(STATE)
    except ModuleNotFoundError as error:
        if not lacking.packages(error, ()):
            raise
        raise NotCovered(lacking.told(error, (STATE,))) from error


def join(*, rank: int, size: int, local_rank: int, method: str, backend: str, timeout: int | None) -> None:
    """Make the world's group, as SGLang's worker does; ``timeout`` in seconds."""
    state().init_distributed_environment(
        world_size=size,
        rank=rank,
        local_rank=local_rank,
        distributed_init_method=method,
        backend=backend,
        timeout=timeout,
    )


def lay_out(**sizes: int) -> None:
    """Make the groups of these sizes (names: those of :data:`SIZES`); what is not given is 1.

    Raises ValueError where this release has no such size.
    """
    with bare.sampler():
        _initialize(**sizes)


def _initialize(**sizes: int) -> None:
    initialize = state().initialize_model_parallel
    parameters = inspect.signature(initialize).parameters
    if SIZES["tp"][0] in parameters:
        unknown = [name for name, size in sizes.items() if size > 1 and SIZES[name][0] not in parameters]
        if unknown:
            raise ValueError(f"this release has no size for {', '.join(unknown)}")
        initialize(**{SIZES[n][0]: size for n, size in sizes.items() if SIZES[n][0] in parameters})
        return
    context = importlib.import_module("sglang.srt.runtime_context").get_parallel()
    whole = {**dict.fromkeys(SIZES, 1), **sizes}
    attn_tp = whole["tp"] // (whole["attn_dp"] * whole["attn_cp"])
    moe_tp = whole["tp"] // (whole["moe_ep"] * whole["moe_dp"])
    fields = {SIZES[name][1]: size for name, size in whole.items()}
    context.override_permanently(**fields, attn_tp_size=attn_tp, moe_tp_size=moe_tp, shared_experts_tp_size=None)
    initialize()


def group(kind: str) -> Any:
    """The coordinator of one kind that this rank is in."""
    return getattr(state(), ACCESSORS[kind])()


def kinds(*, dcp: int = 1) -> tuple[str, ...]:
    """The kinds of group that there are, in this release, with decode context parallelism of that size."""
    there = state()
    return tuple(kind for kind, name in ACCESSORS.items() if hasattr(there, name) and (kind != "dcp" or dcp > 1))


def made(*, dcp: int = 1) -> dict[str, Any]:
    """The coordinator of every kind that this rank has; one object may be of several kinds."""
    return {kind: group(kind) for kind in kinds(dcp=dcp)}


def are_laid_out() -> bool:
    """Whether the host says that the groups are made."""
    return bool(state().model_parallel_is_initialized())


def add(ranks: Sequence[Sequence[int]], name: str, backend: str) -> Any:
    """Make groups beside the host's own, each of these ranks; the coordinator of the one that this rank is in."""
    local_rank = group("world").local_rank
    members = [list(each) for each in ranks]
    return state().init_model_parallel_group(members, local_rank, backend, group_name=name)


def options(kind: str) -> Any:
    """What SGLang gives torch for a group of that kind on the device, as it may be hooked; None: nothing special."""
    return state().get_torch_distributed_pg_options(kind)


def known_by(name: str) -> Any:
    """The coordinator that the host finds by a unique name; None where there is none."""
    reference = state()._groups.get(name)
    return reference() if reference is not None else None


def living() -> list[Any]:
    """The coordinators in this process that hold a process group; what nobody refers to any more is not collected."""
    found = [known_by(name) for name in list(state()._groups)]
    return [each for each in found if each is not None and getattr(each, "device_group", None) is not None]


def is_hosts_own(method: str) -> bool:
    """Whether that method of the coordinators is the host's, with no plugin's hook on it or on their class."""
    registry = importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry
    target = f"{STATE}.GroupCoordinator"
    owner = next((c for c in type(group("tp")).__mro__ if method in vars(c)), None)
    return {target, f"{target}.{method}"}.isdisjoint(registry._patched) and getattr(owner, "__module__", "") == STATE


def leave() -> None:
    """Destroy every group."""
    with bare.bootstrap():
        state().destroy_model_parallel()
    state().destroy_distributed_environment()
