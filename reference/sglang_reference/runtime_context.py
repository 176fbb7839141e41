"""``sglang.srt.runtime_context``: where SGLang keeps the sizes and groups of a process, from 0.5.21 on.

``initialize_model_parallel`` reads its sizes here, and the group accessors answer from here. They come from the
server's arguments, which a process publishes as it begins; without those, state them with
``get_parallel().override_permanently(tp_size=…, …)``, or for a while with ``get_parallel().override(…)``. What the
arguments say of other things is not read here. Facts: SGLang 0.5.23, srt/runtime_context.py and
srt/arg_groups/fields/parallel.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ParallelContext",
    "SpawnRanks",
    "derive_parallel_widths",
    "get_parallel",
    "get_server_args",
    "publish",
    "spawn_world_rank",
]

# What the server's arguments configure for parallelism, and what follows from that or from the groups that are built.
# fmt: off
_CONFIGURED = frozenset([
    "nccl_port", "dist_timeout", "dist_init_addr", "gated_launch_port", "nnodes", "node_rank", "tp_size",
    "dcp_size", "pp_size", "pp_max_micro_batch_size", "pp_async_batch_depth", "dp_size", "attn_dp_size",
    "load_balance_method", "attn_cp_size", "moe_dp_size", "dwdp_size", "dcp_comm_backend", "dcp_replicate_q_proj",
    "enable_prefill_cp", "cp_strategy", "enable_cp_tp_group_sharing", "enable_dsa_cache_layer_split",
    "enable_cp_decode_attn_tp", "enable_kv_cache_sharding", "enable_dp_attention",
    "enable_dp_attention_local_control_broadcast", "enable_dp_lm_head", "enable_tp_lm_head_all_to_all",
    "enable_attn_tp_input_scattered", "enable_shared_experts_attn_tp", "shared_experts_tp_size",
    "enable_dense_mlp_attn_tp", "enable_layernorm_sp", "enable_megamoe_for_layernorm_sp", "disable_attn_tp_gather",
    "enable_p2p_check", "ep_size", "moe_dense_tp_size", "ep_join_rank_offset", "elastic_ep_initial_size",
    "max_ep_size",
])
# fmt: on
_DIMENSIONS = ("tp", "pp", "moe_ep", "moe_dp", "moe_tp", "attn_tp", "attn_cp")
_GIVEN = frozenset(
    [
        *(f"{name}_{what}" for name in (*_DIMENSIONS, "dcp") for what in ("rank", "group")),
        *("attn_dp_rank", "attn_dcp_rank", "dp_rank", "launch_world_rank", "world_group", "shared_experts_tp_group"),
        *("attn_tp_size", "attn_dcp_size", "moe_ep_size", "moe_tp_size", "launch_world_size", "max_world_size"),
        *("attn_dp_enabled", "dcp_enabled", "num_dp_ranks"),
    ]
)
_FIELDS = _CONFIGURED | _GIVEN


class ParallelContext:
    """The sizes, ranks and groups of this process: stated for a while, stated permanently, or not at all."""

    def __init__(self) -> None:
        self._overrides: dict[str, Any] = {}
        self._stamp: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """What is stated for ``name``.

        Raises ValueError for a configured name that is not, RuntimeError for one that groups or ranks would give, and
        AttributeError for a name that SGLang does not have.
        """
        if name.startswith("_"):
            raise AttributeError(name)
        for stated in (self._overrides, self._stamp):
            if name in stated:
                return stated[name]
        if name in _CONFIGURED:
            raise ValueError(
                f"the parallel setting {name!r} is not published; state it with "
                f"get_parallel().override_permanently({name}=...)"
            )
        if name in _FIELDS:
            raise RuntimeError(
                f"the parallel value {name!r} has not been written in this process; build the groups, or state it with "
                f"get_parallel().override({name}=...)"
            )
        raise AttributeError(f"ParallelContext has no {name!r}")

    def override_permanently(self, **values: Any) -> None:
        """State values until :meth:`clear_stamp`. Raises ValueError for unknown names, or where values disagree."""
        _check_names(values)
        before = dict(self._stamp)
        self._stamp.update(values)
        try:
            _check_agreement(self)
        except ValueError:
            self._stamp = before
            raise

    def clear_stamp(self) -> None:
        """Forget all that was stated permanently, ranks and groups too."""
        self._stamp.clear()

    @contextmanager
    def override(self, **values: Any) -> Iterator[ParallelContext]:
        """State values for a while, before all others. Raises ValueError as :meth:`override_permanently` does."""
        _check_names(values)
        before = self._overrides
        self._overrides = {**before, **values}
        try:
            _check_agreement(self)
            yield self
        finally:
            self._overrides = before


_PARALLEL = ParallelContext()


def get_parallel() -> ParallelContext:
    """The context of this process."""
    return _PARALLEL


def derive_parallel_widths(
    *,
    tp_size: int,
    attn_cp_size: int,
    attn_dp_size: int,
    moe_ep_size: int,
    moe_dp_size: int,
    dcp_size: int,
    dcp_enabled: bool,
) -> dict[str, Any]:
    """What the configured sizes leave for attention's and MoE's tensor parallelism, and decode context's size."""
    return {
        "attn_dp_size": attn_dp_size,
        "attn_tp_size": tp_size // (attn_cp_size * attn_dp_size),
        "moe_ep_size": moe_ep_size,
        "moe_tp_size": tp_size // (moe_ep_size * moe_dp_size),
        "dcp_enabled": dcp_enabled,
        "attn_dcp_size": dcp_size if dcp_enabled else 1,
    }


@dataclass(frozen=True)
class SpawnRanks:
    """Where a launcher puts a process: its number in the world, its replica if there are several, its device."""

    world_rank: int
    dp_rank: int | None = None
    gpu_id: int | None = None


def publish(server_args: Any, *, role: str, hf_config: Any = None, ranks: SpawnRanks | None = None) -> None:
    """Make these the arguments of this process, resolved, and state their sizes, and the process's ranks.

    A second call takes the place of the first, and forgets what was stated. ``role`` and ``hf_config`` change nothing.
    """
    from ._arguments.published import publish as keep
    from ._arguments.resolving import settled

    server_args.resolve_once()
    keep(server_args, ranks.gpu_id if ranks is not None else None)
    values = settled(server_args)
    told = {name: getattr(values, name) for name in _CONFIGURED if hasattr(server_args, name)}
    several = getattr(values, "attn_dp_size", 1) if hasattr(server_args, "attn_dp_size") else 1
    if getattr(values, "enable_dp_attention", False):
        several = values.dp_size
    widths = derive_parallel_widths(
        tp_size=values.tp_size,
        attn_cp_size=values.attn_cp_size,
        attn_dp_size=several,
        moe_ep_size=values.ep_size,
        moe_dp_size=values.moe_dp_size,
        dcp_size=values.dcp_size,
        dcp_enabled=values.dcp_size > 1,
    )
    place = {} if ranks is None else _place_of(ranks, {**told, **widths})
    _PARALLEL.clear_stamp()
    _PARALLEL.override_permanently(**{**told, **widths, **place})


def get_server_args() -> Any:
    """The arguments of this process, as the user gave them. ValueError where none are published."""
    from ._arguments.published import published

    arguments = published()
    if arguments is None:
        raise ValueError("server_args not published")
    return arguments


def spawn_world_rank(server_args: Any, *, tp_rank: int, pp_rank: int) -> int:
    """A process's number in the world, of its ranks in a tensor's group and in the pipeline."""
    from ._arguments.resolving import settled

    size: int = settled(server_args).tp_size
    return size * pp_rank + tp_rank


def _place_of(ranks: SpawnRanks, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """A process's rank in each kind of group: tensor parallelism changes fastest, then context, then data."""
    tp_rank, pp_rank = ranks.world_rank % sizes["tp_size"], ranks.world_rank // sizes["tp_size"]
    of_data = sizes["tp_size"] // sizes["moe_dp_size"]
    return {
        "tp_rank": tp_rank,
        "pp_rank": pp_rank,
        "attn_tp_rank": tp_rank % sizes["attn_tp_size"],
        "attn_cp_rank": tp_rank // sizes["attn_tp_size"] % sizes["attn_cp_size"],
        "attn_dp_rank": tp_rank // (sizes["attn_tp_size"] * sizes["attn_cp_size"]),
        "moe_dp_rank": tp_rank // of_data,
        "moe_ep_rank": tp_rank % of_data // sizes["moe_tp_size"],
        "moe_tp_rank": tp_rank % sizes["moe_tp_size"],
        "attn_dcp_rank": tp_rank % sizes["attn_dcp_size"],
        "dp_rank": ranks.dp_rank,
        "launch_world_rank": ranks.world_rank,
    }


def _check_names(values: Mapping[str, Any]) -> None:
    unknown = sorted(values.keys() - _FIELDS)
    if unknown:
        raise ValueError(f"unknown parallel field(s): {unknown}; the context has {', '.join(sorted(_FIELDS))}")


def _check_agreement(parallel: ParallelContext) -> None:
    """Raise ValueError where ranks, sizes and groups that are stated contradict one another."""
    stated = {**parallel._stamp, **parallel._overrides}
    numbers = {name: value for name, value in stated.items() if type(value) is int}
    wrong = [problem for check in (_ranks, _products, _places) for problem in check(numbers)] + _widths(stated, numbers)
    if wrong:
        raise ValueError("the parallel values disagree: " + "; ".join(wrong))


_RANK_OF: Mapping[str, str] = {
    f"{name}_rank": f"{name}_size" for name in ("tp", "pp", "attn_tp", "attn_dp", "attn_cp", "moe_ep")
}
_FACTORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("tp_size", ("attn_tp_size", "attn_dp_size", "attn_cp_size")),
    ("tp_size", ("moe_ep_size", "moe_dp_size", "moe_tp_size")),
)
# MoE's data groups may be the wider ones of attention's context: their size is not compared.
_SIZE_OF_GROUP: Mapping[str, str] = {
    f"{name}_group": f"{name}_size" for name in ("tp", "pp", "attn_tp", "attn_cp", "moe_ep")
}


def _ranks(numbers: Mapping[str, int]) -> list[str]:
    return [
        f"{rank} is {numbers[rank]}, and {size} {numbers[size]}"
        for rank, size in _RANK_OF.items()
        if rank in numbers and size in numbers and not 0 <= numbers[rank] < numbers[size]
    ]


def _products(numbers: Mapping[str, int]) -> list[str]:
    return [
        f"{whole} is {numbers[whole]}, and {' x '.join(parts)} is {math.prod(numbers[part] for part in parts)}"
        for whole, parts in _FACTORS
        if all(name in numbers for name in (whole, *parts))
        and numbers[whole] != math.prod(numbers[part] for part in parts)
    ]


def _places(numbers: Mapping[str, int]) -> list[str]:
    names = ("tp_rank", "attn_dp_rank", "attn_cp_rank", "attn_tp_rank", "attn_cp_size", "attn_tp_size")
    if not all(name in numbers for name in names):
        return []
    rank, dp, cp, tp, cp_size, tp_size = (numbers[name] for name in names)
    place = (dp * cp_size + cp) * tp_size + tp
    return [] if place == rank else [f"tp_rank is {rank}, and attention's ranks are those of {place}"]


def _widths(stated: Mapping[str, Any], numbers: Mapping[str, int]) -> list[str]:
    built = {group: getattr(stated.get(group), "world_size", None) for group in _SIZE_OF_GROUP}
    return [
        f"{group} has {built[group]} ranks, and {size} is {numbers[size]}"
        for group, size in _SIZE_OF_GROUP.items()
        if size in numbers and type(built[group]) is int and built[group] != numbers[size]
    ]
