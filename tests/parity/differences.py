"""What is known to differ, and why it stays so: each looked for exactly, where it must be and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sglang_conformance.contract import tables

from . import collectives, layouts, members, names
from .comparing import NOTHING, Difference

ANY = object()
"""Stands for whatever a side has."""


@dataclass(frozen=True)
class Known:
    """A difference that stays: the places of a subject's stories (patterns) with what each side has there, and why.

    ``world`` shows it, at the first place at least. ``first`` and ``gone``: the first release that has it, and the
    first that has it no longer.
    """

    name: str
    subject: str
    shows: tuple[tuple[str, Any, Any], ...]
    world: Any
    why: str
    first: str = ""
    gone: str = ""

    def holds(self, release: str) -> bool:
        """Whether a release has it."""
        order = tables.releases()
        at = order.index(release)
        return (not self.first or at >= order.index(self.first)) and (not self.gone or at < order.index(self.gone))

    def explains(self, difference: Difference) -> bool:
        """Whether this is what was found."""
        return any(_is(shown, difference) for shown in self.shows)

    def is_shown_by(self, found: Sequence[Difference]) -> bool:
        """Whether the first place is among those found, and so the difference itself."""
        return any(_is(self.shows[0], difference) for difference in found)


def _is(shown: tuple[str, Any, Any], difference: Difference) -> bool:
    place, *sides = shown
    seen = (difference.real, difference.reference)
    alike = all(
        known is ANY or (type(known) is type(has) and known == has) for known, has in zip(sides, seen, strict=True)
    )
    return alike and re.fullmatch(place, difference.place) is not None


def _failing(name: str, error: str) -> tuple[tuple[str, Any, Any], ...]:
    """SGLang's error where the reference gives a value and changes tensors, or refuses the call for another reason."""
    call = rf"/\d/\d+:(tp|world)\.{name}"
    return (
        (f"{call}/error", error, NOTHING),
        (f"{call}/value", NOTHING, ANY),
        (f"{call}/error", error, "RuntimeError"),
        (f"{call}/error", error, "AssertionError"),
        (f"{call}/after/.*", ANY, ANY),
    )


_ROWS = collectives.Tensor((2, 1))
_COMMUNICATED = (
    "{} works in SGLang only where PyNCCL is available, and fails on any other group. The reference serves it through "
    "torch.distributed."
)
_REGISTERED = (
    "SGLang's {} goes by an operator that it registers for its built-in accelerators alone, so it fails on CPU tensors."
    " The reference calls torch.distributed."
)


_STATE = "sglang.srt.distributed.parallel_state"
_OWN_PARTS = "Gathers|Reductions|TensorDicts"
_OWN_MEMBERS = (
    "available_pynccl|enabled_pynccl|explain_all_reduce|debug_check_symmetric_mempool|is_allocation_symmetric|"
    "is_symmetric_memory_enabled|use_symmetric_memory"
)

KNOWN: tuple[Known, ...] = (
    Known(
        "helpers-not-covered",
        "names",
        ((r"/sglang\.srt\.utils\.common/\w+", ANY, NOTHING),),
        names.World("sglang.srt.utils.common"),
        "Of SGLang's helpers the reference has those that ask the platform. Any other is refused with NotCovered.",
    ),
    Known(
        "parts-of-the-coordinator",
        "names",
        (
            (rf"/{_STATE}:GroupCoordinator/({_OWN_MEMBERS})", NOTHING, ANY),
            (rf"/{_STATE}/({_OWN_PARTS})", NOTHING, ANY),
            (r"/sglang\.srt\.distributed\.communication_op/broadcast_pyobj", NOTHING, ANY),
        ),
        names.World(f"{_STATE}:GroupCoordinator"),
        "The reference writes GroupCoordinator in parts, has some of what SGLang sets on each instance as static "
        "methods, and tells why an all-reduce goes the way it goes. What SGLang has is there, with its signature.",
    ),
    Known(
        "capabilities-frozen",
        "members",
        ((r"/\d+:\(capabilities\)/error", "AttributeError", "FrozenInstanceError"),),
        members.World(calls=(("(capabilities)", ("supports_triton",), {}),)),
        "SGLang's capabilities are a msgspec.Struct, the reference's a dataclass, as it needs no msgspec. Changing one "
        "raises AttributeError in both, of which FrozenInstanceError is a kind.",
        first="0.5.22",
    ),
    Known(
        "pynccl-without-library",
        "layouts",
        ((r"/\d+:survey/value/tp/pynccl/list/1", False, True),),
        layouts.World(size=2, sizes={"tp": 2}, making={"duplicate_tp_group": True}),
        "Where the tensor-parallel group is duplicated, SGLang switches on PyNCCL even where its library is missing, "
        "and the next operation fails. The reference switches on only what is available.",
    ),
    Known(
        "self-pp-forgotten",
        "layouts",
        ((r"/\d+:quit/events", ANY, ANY),),
        layouts.World(steps=("join", "lay_out", "leave", "quit")),
        "SGLang never destroys the group of a rank alone, which it makes since 0.5.19. The reference destroys it with "
        "the world's group, so that nothing is left behind.",
        first="0.5.19",
    ),
    Known(
        "ensure-with-backend",
        "layouts",
        ((r"/\d+:ensure/(error|value|events)", ANY, ANY),),
        layouts.World(steps=("join", "ensure")),
        "SGLang's ensure_model_parallel_initialized passes the backend where a size is expected, and cannot make "
        "groups. The reference makes them.",
        gone="0.5.15",
    ),
    Known(
        "all-gatherv-without-pynccl",
        "collectives",
        _failing("all_gatherv", "AttributeError"),
        collectives.World((collectives.Call("world", "all_gatherv", (_ROWS,)),)),
        _COMMUNICATED.format("all_gatherv"),
    ),
    Known(
        "reduce-scatterv-without-pynccl",
        "collectives",
        _failing("reduce_scatterv", "AttributeError"),
        collectives.World((collectives.Call("world", "reduce_scatterv", (_ROWS,)),)),
        _COMMUNICATED.format("reduce_scatterv"),
    ),
    Known(
        "all-to-all-on-cpu",
        "collectives",
        _failing("all_to_all_single", "NotImplementedError"),
        collectives.World((collectives.Call("world", "all_to_all_single", (_ROWS, _ROWS)),)),
        _REGISTERED.format("all_to_all_single"),
        first="0.5.13",
    ),
    Known(
        "gather-into-on-cpu",
        "collectives",
        _failing("all_gather_into_tensor", "NotImplementedError"),
        collectives.World((collectives.Call("world", "all_gather_into_tensor", (collectives.Tensor((4, 1)), _ROWS)),)),
        _REGISTERED.format("all_gather_into_tensor"),
        gone="0.5.19",
    ),
    Known(
        "reduce-scatter-on-cpu",
        "collectives",
        _failing("reduce_scatter_(tensor|along_dim)", "NotImplementedError"),
        collectives.World((collectives.Call("world", "reduce_scatter_tensor", (_ROWS, collectives.Tensor((4, 1)))),)),
        _REGISTERED.format("reduce_scatter_tensor"),
        gone="0.5.19",
    ),
    Known(
        "quant-all-reduce-on-cpu",
        "collectives",
        _failing("quant_all_reduce", "NotImplementedError"),
        collectives.World((collectives.Call("world", "quant_all_reduce", (_ROWS,)),)),
        _REGISTERED.format("quant_all_reduce"),
    ),
)


def explained(found: Sequence[Difference], subject: str, release: str) -> tuple[list[Known], list[Difference]]:
    """The entries that explain some of what was found, and what none of them explains."""
    entries = [known for known in KNOWN if known.subject == subject and known.holds(release)]
    used = [known for known in entries if any(known.explains(difference) for difference in found)]
    rest = [difference for difference in found if not any(known.explains(difference) for known in used)]
    return used, rest
