"""Which groups are made of which ranks, in which order and with what: every rank's view, with no other rank there.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sglang_conformance.hosts import bare

from .plain import described, outcome, read
from .standing_in import Distributed, Group, instead
from .vendors import Vendors
from .witness import Witness, witness

SIZES = {
    "tp": ("tensor_model_parallel_size", "tp_size"),
    "pp": ("pipeline_model_parallel_size", "pp_size"),
    "attn_dp": ("attention_data_parallel_size", "attn_dp_size"),
    "attn_cp": ("attention_context_model_parallel_size", "attn_cp_size"),
    "moe_ep": ("expert_model_parallel_size", "moe_ep_size"),
    "moe_dp": ("moe_data_model_parallel_size", "moe_dp_size"),
    "dcp": ("decode_context_parallel_size", "attn_dcp_size"),
    "shared_experts": ("", "shared_experts_tp_size"),
}
"""A size's name here, as an argument (up to 0.5.20), and in the context (from 0.5.21 on)."""
SWITCHES = ("set_custom_all_reduce", "set_torch_symm_mem_all_reduce", "set_mscclpp", "set_mscclpp_all_reduce")
_STATE = "sglang.srt.distributed.parallel_state"
_GROUPS = (
    "world",
    "tp",
    "attn_tp",
    "attn_cp",
    "moe_dp",
    "moe_ep",
    "moe_tp",
    "pp",
    "dcp",
    "shared_experts_tp",
    "self_pp",
)
_NUMBERS = (
    "get_world",
    "get_tensor_model_parallel",
    "get_attn_tensor_model_parallel",
    "get_attn_context_model_parallel",
    "get_pipeline_model_parallel",
    "get_moe_data_parallel",
    "get_moe_expert_parallel",
    "get_moe_tensor_parallel",
)


@dataclass(frozen=True)
class World:
    """A rank of a world, and what it does.

    ``sizes``: those that are given, by the names of :data:`SIZES`. ``joining`` and ``making``: further arguments of
    ``init_distributed_environment`` and of ``initialize_model_parallel``. ``steps``: names of :data:`STEPS`; a switch
    is followed by what it is set to.
    """

    size: int = 1
    rank: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    backend: str = "gloo"
    joining: dict[str, Any] = field(default_factory=dict)
    making: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ("join", "lay_out", "survey")


def enact(data: Any) -> Any:
    """Take the steps, and tell of each what it asked of torch and what the accessors then give."""
    world = read(World, data)
    # A queue of messages is made with the other ranks.
    os.environ.update({"SGLANG_USE_MESSAGE_QUEUE_BROADCASTER": "0", **world.environment})
    Vendors((), {}).install()  # looking through the distributions of this environment takes longer than all the rest
    importlib.import_module("sglang.srt.platforms")._current_platform = None  # type: ignore[attr-defined]
    with witness() as seen, instead(Distributed(world.size, world.rank, seen.tell)), bare.sampler(), bare.bootstrap():
        return [_plain(seen.step(name, functools.partial(_taken, name, world, seen))) for name in world.steps]


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """Without log records, as engines that are not there are told of in words of each one's own; and the order in
    which groups are destroyed does not matter."""
    events = sorted(told["events"], key=repr) if told["step"] == "leave" else told["events"]
    return {**{name: value for name, value in told.items() if name != "logs"}, "events": events}


def _taken(name: str, world: World, seen: Witness) -> Any:
    switch, _, value = name.partition(" ")
    if switch in SWITCHES:
        return getattr(_state(), switch)(value == "on")
    return STEPS[name](world)


def _state() -> Any:
    return importlib.import_module(_STATE)


def _join(world: World) -> Any:
    given = {"distributed_init_method": "tcp://127.0.0.1:1", "backend": world.backend, **world.joining}
    return _state().init_distributed_environment(world_size=world.size, rank=world.rank, **given)


def _lay_out(world: World) -> Any:
    initialize = _state().initialize_model_parallel
    if SIZES["tp"][0] in inspect.signature(initialize).parameters:
        return initialize(**{SIZES[name][0] or name: size for name, size in world.sizes.items()}, **world.making)
    context = importlib.import_module("sglang.srt.runtime_context").get_parallel()
    whole: dict[str, Any] = {**dict.fromkeys(SIZES, 1), "shared_experts": None, **world.sizes}
    fields = {SIZES[name][1]: size for name, size in whole.items()}
    attn_tp = whole["tp"] // (whole["attn_dp"] * whole["attn_cp"])
    moe_tp = whole["tp"] // (whole["moe_ep"] * whole["moe_dp"])
    context.override_permanently(**fields, attn_tp_size=attn_tp, moe_tp_size=moe_tp)
    return initialize(**world.making)


def _ensure(world: World) -> Any:
    return _state().ensure_model_parallel_initialized(world.sizes.get("tp", 1), 1, world.sizes.get("pp", 1))


def _leave(world: World) -> Any:
    return _state().destroy_model_parallel()


def _quit(world: World) -> Any:
    state = _state()
    state.destroy_distributed_environment()
    if "_SELF_PP" in vars(state):  # which SGLang forgets, as the list of differences has it: no more of it follows
        state._SELF_PP = None


def _add(world: World) -> Any:
    ranks = [[rank] for rank in reversed(range(world.size))]
    return _coordinator(_state().init_model_parallel_group(ranks, 0, world.backend, group_name="vendor"), {})


def _survey(world: World) -> Any:
    state = _state()
    names: dict[int, str] = {}
    told: dict[str, Any] = {}
    for kind in _GROUPS:
        accessor: Callable[[], Any] | None = getattr(state, f"get_{kind}_group", None)
        if accessor is None:
            told[kind] = "absent"
            continue
        try:
            group = accessor()
        except Exception as error:
            told[kind] = {"error": type(error).__name__}
        else:
            told[kind] = _coordinator(group, names)
            names.setdefault(id(group), kind)
    for name in _NUMBERS:
        for what in ("rank", "world_size") if name != "get_world" else ("rank", "size"):
            function = getattr(state, f"{name}_{what}", None)
            told[f"{name}_{what}"] = "absent" if function is None else outcome(function)
    told["initialized"] = state.model_parallel_is_initialized()
    return told


_ATTRIBUTES = (
    "ranks",
    "world_size",
    "rank",
    "rank_in_group",
    "local_rank",
    "local_size",
    "unique_name",
    "first_rank",
    "last_rank",
    "is_first_rank",
    "is_last_rank",
    "next_rank",
    "prev_rank",
    "use_pynccl",
    "use_mscclpp",
    "use_pymscclpp",
    "use_custom_allreduce",
    "use_torch_symm_mem_all_reduce",
    "use_hpu_communicator",
    "use_xpu_communicator",
    "use_npu_communicator",
    "use_message_queue_broadcaster",
    "mq_broadcaster",
    "ca_comm",
)


def _coordinator(group: Any, names: dict[int, str]) -> Any:
    if group is None or id(group) in names:
        return names.get(id(group))
    told = {name: described(getattr(group, name, "absent")) for name in _ATTRIBUTES}
    told["device"] = [str(group.device), getattr(group.device_module, "__name__", "")]
    told["groups"] = [_number(group.device_group), _number(group.cpu_group)]
    told["active"] = [group.active_ranks.tolist(), group.active_ranks_cpu.tolist()]
    pynccl = group.pynccl_comm
    told["pynccl"] = None if pynccl is None else [pynccl.available, pynccl.disabled, pynccl.world_size]
    return told


def _number(group: Group | None) -> Any:
    return None if group is None else [group.number, list(group.ranks), group.backend]


STEPS: dict[str, Callable[[World], Any]] = {
    "join": _join,
    "lay_out": _lay_out,
    "ensure": _ensure,
    "survey": _survey,
    "leave": _leave,
    "quit": _quit,
    "add": _add,
}
"""What a rank can do, besides setting the :data:`SWITCHES`."""
