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

_STEP = re.compile(r".*?/\d+:[^/]*")


@dataclass(frozen=True)
class Known:
    """A difference that stays: the places of a subject's stories (patterns) with what each side has there, and why.

    Instead of what the reference has, a function of both sides may say whether it is that. ``beside`` is a pattern of
    the places that differ as well in a step that shows it, whatever they hold. ``world`` shows it, at the first place
    at least. ``first`` and ``gone``: the first release that has it, and the first that has it no longer.
    """

    name: str
    subject: str
    shows: tuple[tuple[str, Any, Any], ...]
    world: Any
    why: str
    beside: str = ""
    first: str = ""
    gone: str = ""

    def holds(self, release: str) -> bool:
        """Whether a release has it."""
        order = tables.releases()
        at = order.index(release)
        return (not self.first or at >= order.index(self.first)) and (not self.gone or at < order.index(self.gone))

    def explains(self, difference: Difference, found: Sequence[Difference]) -> bool:
        """Whether this is the difference, one of those that were found in a world."""
        if any(_is(shown, difference) for shown in self.shows):
            return True
        step = _STEP.match(difference.place)
        return (
            step is not None
            and re.fullmatch(self.beside, difference.place) is not None
            and any(_is(shown, each) for shown in self.shows for each in found if _is_in(step.group(), each))
        )

    def is_shown_by(self, found: Sequence[Difference]) -> bool:
        """Whether the first place is among those found, and so the difference itself."""
        return any(_is(self.shows[0], difference) for difference in found)


def _is(shown: tuple[str, Any, Any], difference: Difference) -> bool:
    place, real, reference = shown
    if re.fullmatch(place, difference.place) is None or not _has(real, difference.real):
        return False
    return (
        reference(difference.real, difference.reference)
        if callable(reference)
        else _has(reference, difference.reference)
    )


def _has(known: Any, seen: Any) -> bool:
    return known is ANY or (type(known) is type(seen) and known == seen)


def _is_in(step: str, difference: Difference) -> bool:
    return difference.place.startswith(f"{step}/")


def _failing(name: str, error: str) -> tuple[tuple[str, Any, Any], ...]:
    """SGLang's error where the reference gives a value, or refuses the call for another reason."""
    place = f"{_CALL.format(name)}/error"
    return tuple((place, error, other) for other in (NOTHING, "RuntimeError", "AssertionError", "ValueError"))


def _served(name: str) -> str:
    """The places of what the reference gives, and what becomes of the tensors, where SGLang fails."""
    return f"{_CALL.format(name)}/(value|after/.*)"


def _goes_on(real: Any, reference: Any) -> bool:
    """Whether the reference does what SGLang does, and more after that."""
    return len(reference) > len(real) and reference[: len(real)] == real


def _destroys_two_more(real: Any, reference: Any) -> bool:
    """Whether the reference destroys two groups first, those of a rank alone, and then what SGLang destroys."""
    return reference[2:] == real and [name for name, _ in reference[:2]] == ["destroy_process_group"] * 2


_CALL = r"/\d/\d+:(tp|world)\.{}"
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
        ((r"/\d+:quit/events", ANY, _destroys_two_more),),
        layouts.World(steps=("join", "lay_out", "leave", "quit")),
        "SGLang never destroys the group of a rank alone, which it makes since 0.5.19. The reference destroys it with "
        "the world's group, so that nothing is left behind.",
        first="0.5.19",
    ),
    Known(
        "ensure-with-backend",
        "layouts",
        ((r"/\d+:ensure/error", "TypeError", NOTHING), (r"/\d+:ensure/events", ANY, _goes_on)),
        layouts.World(steps=("join", "ensure")),
        "SGLang's ensure_model_parallel_initialized passes the backend where a size is expected, and cannot make "
        "groups. The reference makes them.",
        beside=r"/\d+:ensure/value",
        gone="0.5.15",
    ),
    Known(
        "all-gatherv-without-pynccl",
        "collectives",
        _failing("all_gatherv", "AttributeError"),
        collectives.World((collectives.Call("world", "all_gatherv", (_ROWS,)),)),
        _COMMUNICATED.format("all_gatherv"),
        beside=_served("all_gatherv"),
    ),
    Known(
        "reduce-scatterv-without-pynccl",
        "collectives",
        _failing("reduce_scatterv", "AttributeError"),
        collectives.World((collectives.Call("world", "reduce_scatterv", (_ROWS,)),)),
        _COMMUNICATED.format("reduce_scatterv"),
        beside=_served("reduce_scatterv"),
    ),
    Known(
        "all-to-all-on-cpu",
        "collectives",
        _failing("all_to_all_single", "NotImplementedError"),
        collectives.World((collectives.Call("world", "all_to_all_single", (_ROWS, _ROWS)),)),
        _REGISTERED.format("all_to_all_single"),
        first="0.5.13",
        beside=_served("all_to_all_single"),
    ),
    Known(
        "gather-into-on-cpu",
        "collectives",
        _failing("all_gather_into_tensor", "NotImplementedError"),
        collectives.World((collectives.Call("world", "all_gather_into_tensor", (collectives.Tensor((4, 1)), _ROWS)),)),
        _REGISTERED.format("all_gather_into_tensor"),
        gone="0.5.19",
        beside=_served("all_gather_into_tensor"),
    ),
    Known(
        "reduce-scatter-on-cpu",
        "collectives",
        _failing("reduce_scatter_(tensor|along_dim)", "NotImplementedError"),
        collectives.World((collectives.Call("world", "reduce_scatter_tensor", (_ROWS, collectives.Tensor((4, 1)))),)),
        _REGISTERED.format("reduce_scatter_tensor"),
        gone="0.5.19",
        beside=_served("reduce_scatter_(tensor|along_dim)"),
    ),
    Known(
        "quant-all-reduce-on-cpu",
        "collectives",
        _failing("quant_all_reduce", "NotImplementedError"),
        collectives.World((collectives.Call("world", "quant_all_reduce", (_ROWS,)),)),
        _REGISTERED.format("quant_all_reduce"),
        beside=_served("quant_all_reduce"),
    ),
)


def explained(found: Sequence[Difference], subject: str, release: str) -> tuple[list[Known], list[Difference]]:
    """The entries that explain some of what was found, and what none of them explains."""
    entries = [known for known in KNOWN if known.subject == subject and known.holds(release)]
    used = [known for known in entries if any(known.explains(difference, found) for difference in found)]
    rest = [difference for difference in found if not any(known.explains(difference, found) for known in used)]
    return used, rest
