"""In which order and how often SGLang's core comes to a platform, by release: tables, for :mod:`.expected`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packaging.version import Version

from .trace import ATTENTION, DEVICE, END, GRAPHS, GROUPS, MODEL, PLUGINS, POOLS, Kind

What = tuple[Kind, str]
Fault = Literal["platform", "host", "unknown"]

POOL_MEMBERS = (
    "get_kv_pool_cls",
    "get_mha_kv_pool_cls",
    "get_mla_kv_pool_cls",
    "get_dsa_kv_pool_cls",
    "get_nsa_kv_pool_cls",
)


def holds(release: str, since: str, until: str) -> bool:
    """Whether a release is ``since`` or later, and before ``until``; empty is no bound."""
    at = Version(release)
    return (not since or Version(since) <= at) and (not until or at < Version(until))


@dataclass(frozen=True)
class Order:
    """In a worker, where both happened: ``first`` has begun before ``then`` does, or ended, where ``ended`` is set.

    ``fault``: whose it is where that does not hold.
    """

    first: What
    then: What
    why: str
    since: str = ""
    until: str = ""
    ended: bool = False
    fault: Fault = "unknown"


@dataclass(frozen=True)
class Count:
    """How often the core calls one of these members in each process of a role that came as far as ``reached``.

    ``once_for``: as often as that moment was, rather than ``least`` to ``most`` times. ``out_of_tree``: only there;
    ``own_device``: only where the device is none that SGLang has code for.
    """

    members: tuple[str, ...]
    role: str
    reached: str
    why: str
    least: int = 1
    most: int | None = None
    once_for: str = ""
    out_of_tree: bool = False
    own_device: bool = False
    since: str = ""
    until: str = ""


_PLUGINS: What = ("moment", PLUGINS)
_DEVICE: What = ("moment", DEVICE)
_MODEL: What = ("moment", MODEL)
_POOLS: What = ("moment", POOLS)
_ATTENTION: What = ("moment", ATTENTION)
_INIT: What = ("call", "init_backend")
_POST_LOAD: What = ("call", "post_load_model")
_RUNNER = "0.5.11, srt/model_executor/model_runner.py"

ORDERS: tuple[Order, ...] = (
    Order(_PLUGINS, _INIT, "0.5.23, srt/managers/scheduler.py: the process loads plugins first of all", ended=True),
    Order(_PLUGINS, _DEVICE, "0.5.23, srt/managers/scheduler.py: plugins come first of all", ended=True),
    Order(
        _INIT,
        _DEVICE,
        "0.5.20, srt/model_executor/model_runner.py: init_backend() runs while the module is imported, "
        "the device is made current when its ModelRunner is constructed",
        until="0.5.21",
        ended=True,
    ),
    Order(
        _DEVICE,
        _INIT,
        "0.5.21, srt/managers/scheduler.py: the device and the groups come before the worker and its model runner are "
        "imported",
        since="0.5.21",
        ended=True,
        fault="host",
    ),
    Order(
        ("call", "get_torch_distributed_backend_str"),
        ("moment", GROUPS),
        "0.5.14, srt/distributed/parallel_state.py: the groups are made with the platform's backend",
        since="0.5.14",
        ended=True,
    ),
    Order(("moment", GROUPS), _MODEL, f"{_RUNNER}: layers ask for their groups", ended=True),
    Order(_INIT, _MODEL, f"{_RUNNER}: before there is a model runner", ended=True),
    Order(
        _MODEL,
        _POST_LOAD,
        "0.5.22, srt/model_executor/model_runner.py: load_model() calls it once the weights are there",
        since="0.5.22",
    ),
    Order(
        _POST_LOAD,
        _POOLS,
        "0.5.22, srt/model_executor/model_runner.py: pools get the memory that the model leaves",
        since="0.5.22",
        ended=True,
    ),
    Order(_MODEL, _POOLS, f"{_RUNNER}: pools get what the model leaves", ended=True),
    *(
        Order(_POOLS, ("call", member), f"{_RUNNER}: pools are made there")
        for member in (*POOL_MEMBERS, "get_paged_allocator_cls")
    ),
    Order(_POOLS, _ATTENTION, f"{_RUNNER}: attention reads the pools", ended=True),
    Order(_ATTENTION, ("moment", GRAPHS), f"{_RUNNER}: graphs hold the attention", ended=True),
    Order(
        ("moment", GRAPHS),
        ("call", "get_graph_runner_cls"),
        f"{_RUNNER}: asked for when graphs are captured",
    ),
)

COUNTS: tuple[Count, ...] = (
    Count(
        ("apply_server_args_defaults",),
        "launcher",
        END,
        "0.5.11, srt/server_args.py; 0.5.23, srt/arg_groups/platform_hook.py: whenever arguments are settled",
    ),
    Count(
        ("init_backend",),
        "worker",
        MODEL,
        "0.5.11 to 0.5.23, srt/model_executor/model_runner.py: once, while the module is imported, on an out-of-tree "
        "platform",
        most=1,
        out_of_tree=True,
    ),
    Count(
        ("post_load_model",),
        "worker",
        POOLS,
        "0.5.22, srt/model_executor/model_runner.py: once for each model that is loaded",
        once_for=MODEL,
        since="0.5.22",
    ),
    Count(
        ("get_device_total_memory",),
        "worker",
        POOLS,
        "0.5.11, srt/utils/common.py: free memory of an out-of-tree device is the total less what is in use",
        own_device=True,
    ),
    Count(
        ("get_current_memory_usage",),
        "worker",
        POOLS,
        "0.5.11, srt/utils/common.py: free memory of an out-of-tree device is the total less what is in use",
        own_device=True,
    ),
    Count(
        POOL_MEMBERS,
        "worker",
        POOLS,
        "0.5.11, srt/model_executor/model_runner_kv_cache_mixin.py; 0.5.22, srt/mem_cache/kv_cache_configurator.py: "
        "pools are of the platform's class",
        out_of_tree=True,
    ),
)
