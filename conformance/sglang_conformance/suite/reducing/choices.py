"""SGLang's choice of a custom all-reduce, asked on an imagined machine: by its own functions, with the hooks in them.

What is imagined stands below everything that decides: NVML, torch.cuda, the exchange of the ranks, what was tested of
peer access. All ranks of a world are asked, one after the other in this process: one that waits for what others have
not said is asked again when they have. It changes the process, so it is done in a fork.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from ...oracles import all_reduce as oracle
from .. import expect, isolate
from . import machines
from .machines import Stand, Waits
from .worlds import World

CHOICE = "sglang.srt.distributed.device_communicators.custom_all_reduce"
UTILS, SECOND = f"{CHOICE}_utils", f"{CHOICE}_v2"
DISPATCH = f"{CHOICE.rpartition('.')[2]}.dispatch_custom_allreduce"
_PARTS = (CHOICE, f"{CHOICE.rpartition('.')[0]}._first_generation", UTILS, SECOND)
_CONFIG = f"{CHOICE.rpartition('.')[0]}.configs.custom_all_reduce_v2"
_SWITCHES = ("SGLANG_OPT_USE_CUSTOM_ALL_REDUCE_V2", "SGLANG_USE_JIT_ALL_REDUCE", "SGLANG_SKIP_P2P_CHECK")
_BY_NAME = {"CustomAllReduceV2": oracle.SECOND, "CustomAllreduce": oracle.FIRST}
FOREIGN, WAITING = "another's", "waiting for ever"
_DEADLINE = 50.0  # of thousands of worlds on a machine with much else to do; alone they take seconds


@dataclass(frozen=True)
class Answer:
    """What a rank has: a generation, ``none``, a class of another's, or nothing, as it waits for ever; and the error
    that it was told by, as SGLang takes any error in the making for having none.
    """

    generation: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.generation} ({self.note})" if self.note else self.generation


def asked(worlds: Iterable[World], release: str, *, hooked: bool = True) -> list[list[Answer]]:
    """For each world what its ranks have, in a fork of this process; ``hooked`` as of :func:`on_imagined_machines`."""
    chosen = list(worlds)

    def ask(stand: Stand) -> list[list[list[str]]]:
        return [[[each.generation, each.note] for each in answers(stand, world)] for world in chosen]

    return [[Answer(*each) for each in ranks] for ranks in on_imagined_machines(ask, hooked=hooked)]


def on_imagined_machines(action: Callable[[Stand], Any], *, hooked: bool = True, deadline: float = _DEADLINE) -> Any:
    """What an action gives (plain data) in a fork in which the host's choice stands on imagined machines.

    ``hooked``: by its functions as they are now, with hooks in them; else as SGLang has them, imported afresh.
    """

    def act() -> Any:
        if not hooked:
            for name in _PARTS:
                sys.modules.pop(name, None)
        with imagined() as stand:
            return action(stand)

    words = "SGLang's choice of a custom all-reduce, on imagined machines"
    return isolate.in_fork(act, deadline).settled(words)


def answers(stand: Stand, world: World) -> list[Answer]:
    """What each rank of a world has."""
    stand.enter(world)
    _refresh(stand)
    found: dict[int, Answer] = {}
    while len(found) < world.size:
        before = len(found), stand.heard
        for rank in range(world.size):
            if rank not in found:
                stand.sit(rank)
                with contextlib.suppress(Waits):
                    found[rank] = _answer(stand)
        if before == (len(found), stand.heard):  # who waits now waits for one that has gone
            return [found.get(rank, Answer(WAITING)) for rank in range(world.size)]
    return [found[rank] for rank in range(world.size)]


@contextlib.contextmanager
def imagined() -> Any:
    """Put imagined machines below the host's choice, for good: this process is a fork. Gives the stand of its ranks."""
    import torch
    import torch.distributed as dist

    logging.disable(logging.CRITICAL)
    stand = Stand()
    library, group = machines.Library(stand), machines.distributed(stand, dist)
    everywhere = {
        "dist": group,
        "pynvml": library,
        "in_the_same_node_as": machines.same_node(stand),
        "_gpu_fabric_clique": machines.clique(stand),
        "_is_vmm_backed_allocator": lambda device: stand.world.vmm,
        "kind_of_device": lambda: stand.world.kind,
    }
    for module in modules():
        _replace(module, everywhere)
    vars(importlib.import_module(UTILS)).update(pynvml=library, **machines.amd(stand))
    for name, function in _cuda(stand).items():
        setattr(torch.cuda, name, function)
    platforms = importlib.import_module("sglang.srt.platforms")
    vars(platforms)["current_platform"] = _another_platform()
    yield stand


def hooked() -> list[tuple[str, str]]:
    """What plugins have hooked of the choice, and where each hook is defined; the choice itself last."""
    registry = importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry
    found = [
        (target.rpartition(".")[2], expect.place(hook))
        for target in sorted(registry._patched)
        if target.startswith(CHOICE)
        for _, hook, *_ in registry._hooks.get(target, ())
    ]
    return sorted(found, key=lambda each: each[0] in DISPATCH)


def modules() -> list[ModuleType]:
    """The host's modules that decide. Those that a host does not have are left out."""
    found = []
    for name in _PARTS:
        try:
            found.append(importlib.import_module(name))
        except ModuleNotFoundError:
            continue
    return found


def _replace(module: ModuleType, values: Mapping[str, Any]) -> None:
    """Other values for names that the module has."""
    held = vars(module)
    held.update({name: value for name, value in values.items() if name in held})


def _cuda(stand: Stand) -> dict[str, Callable[..., Any]]:
    def properties(device: Any = None) -> SimpleNamespace:
        number = device if isinstance(device, int) else 0
        return SimpleNamespace(multi_processor_count=132, uuid=machines.uuid(number), name="imagined")

    return {
        "device_count": lambda: stand.count,
        "get_device_capability": lambda device=None: stand.world.capability,
        "get_device_properties": properties,
        "can_device_access_peer": lambda one, other: stand.reaches(one, other),
        "current_device": lambda: stand.index,
        "is_available": lambda: True,
    }


def _another_platform() -> Any:
    """A platform that is not the vendor's, whose hooks are loaded wherever the plugin is installed."""
    from sglang.srt.platforms.device_mixin import PlatformEnum
    from sglang.srt.platforms.interface import SRTPlatform

    fields = {"_enum": PlatformEnum.CUDA, "device_name": "cuda", "device_type": "cuda"}
    return type("ImaginedCudaPlatform", (SRTPlatform,), fields)()


def _refresh(stand: Stand) -> None:
    """Have the host forget what it read of the world before."""
    kind = stand.world.kind
    flags = {"_is_cuda": kind == "cuda", "_is_hip": kind == "rocm", "_is_musa": kind == "musa"}
    for module in modules():
        _replace(module, flags)
        _replace(module, {"THRESHOLD_2_SHOT_MAP": {}, "is_sm100_supported": lambda: stand.world.capability[0] == 10})
    config = sys.modules.get(_CONFIG)
    for function in list(vars(config).values()) if config is not None else ():
        if callable(getattr(function, "cache_clear", None)):
            function.cache_clear()
    for name in _SWITCHES:
        os.environ.pop(name, None)
    if stand.world.second is not None:
        for name in _SWITCHES[:2]:
            os.environ[name] = "1" if stand.world.second else "0"


def _see(stand: Stand) -> None:
    """What differs between the processes of a world."""
    world = stand.world
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if world.visible == "own":
        os.environ["CUDA_VISIBLE_DEVICES"] = str(stand.number)
    elif world.visible == "uuids":
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(machines.uuid(number) for number in range(stand.count))
    _replace(importlib.import_module(UTILS), {"_gpu_p2p_access_cache": stand.access()})


def _answer(stand: Stand) -> Answer:
    """What this rank has, as SGLang's coordinator and its classes come to it."""
    import torch

    _see(stand)
    choice, utils = importlib.import_module(CHOICE), importlib.import_module(UTILS)
    given = {"group": object(), "device": torch.device("cuda", stand.index)}
    if stand.world.size == 1:  # the coordinator does not ask
        return Answer(oracle.NONE)
    try:
        chosen = choice.dispatch_custom_allreduce(**given)
        generation = _generation(chosen)
        if generation == oracle.SECOND:
            usable = importlib.import_module(SECOND).can_use_custom_all_reduce_v2(**given)
            return Answer(generation) if usable else Answer(oracle.NONE, "the second generation, disabled")
        if generation == oracle.FIRST:
            sizes, ask = list(chosen._SUPPORTED_WORLD_SIZES), utils.can_use_custom_all_reduce_with_nvlink
            linked = ask(**given, supported_world_size=sizes, cls_name=chosen.__name__)
            return Answer(generation if _takes_any(choice, stand, linked) else oracle.NONE)
        return Answer(generation, f"{getattr(chosen, '__module__', '')}.{getattr(chosen, '__name__', chosen)}")
    except Exception as error:
        expect.pass_on_uncovered(error)
        return Answer(oracle.NONE, f"{type(error).__name__}: {error}")


def _generation(chosen: Any) -> str:
    own = str(getattr(chosen, "__module__", "")).startswith(f"{CHOICE.partition('.')[0]}.")
    return _BY_NAME.get(getattr(chosen, "__name__", ""), FOREIGN) if own else FOREIGN


def _takes_any(choice: ModuleType, stand: Stand, linked: bool | None) -> bool:
    import torch

    if linked is None:
        return False
    return takes(choice.CustomAllreduce, torch.empty(64, device="meta"), stand.world.size, linked)


def takes(kind: Any, tensor: Any, size: int, linked: bool, most: int | None = None) -> bool:
    """Whether an object of the first generation's class takes a tensor: its own method, on an object not made."""
    held = SimpleNamespace(
        disabled=False,
        original_disabled=False,
        world_size=size,
        full_nvlink=linked,
        max_size=kind._MAX_CAR_SIZE if most is None else most,
        use_amd_deterministic_impl=False,
    )
    return bool(kind.should_custom_ar(held, tensor))
