"""What is known to differ, and why it stays so: each looked for exactly, where it must be and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sglang_conformance.contract import tables

from . import layouts, members
from .comparing import Difference

ANY = object()
"""Stands for whatever a side has."""


@dataclass(frozen=True)
class Known:
    """A difference that stays: where in a subject's stories it is (a pattern), what each side has there, and why.

    ``world`` shows it. ``first`` and ``gone``: the first release that has it, and the first that has it no longer.
    """

    name: str
    subject: str
    place: str
    real: Any
    reference: Any
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
        sides = ((self.real, difference.real), (self.reference, difference.reference))
        alike = all(known is ANY or (type(known) is type(seen) and known == seen) for known, seen in sides)
        return alike and re.fullmatch(self.place, difference.place) is not None


KNOWN: tuple[Known, ...] = (
    Known(
        "capabilities-frozen",
        "members",
        r"/\d+:\(capabilities\)/error",
        "AttributeError",
        "FrozenInstanceError",
        members.World(calls=(("(capabilities)", ("supports_triton",), {}),)),
        "SGLang's capabilities are a msgspec.Struct, the reference's a dataclass, as it needs no msgspec. Changing one "
        "raises AttributeError in both, of which FrozenInstanceError is a kind.",
        first="0.5.22",
    ),
    Known(
        "pynccl-without-library",
        "layouts",
        r"/\d+:survey/value/tp/pynccl/list/1",
        False,
        True,
        layouts.World(size=2, sizes={"tp": 2}, making={"duplicate_tp_group": True}),
        "Where the tensor-parallel group is duplicated, SGLang switches on PyNCCL even where its library is missing, "
        "and the next operation fails. The reference switches on only what is available.",
    ),
    Known(
        "self-pp-forgotten",
        "layouts",
        r"/\d+:quit/events",
        ANY,
        ANY,
        layouts.World(steps=("join", "lay_out", "leave", "quit")),
        "SGLang never destroys the group of a rank alone, which it makes since 0.5.19. The reference destroys it with "
        "the world's group, so that nothing is left behind.",
        first="0.5.19",
    ),
    Known(
        "ensure-with-backend",
        "layouts",
        r"/\d+:ensure/(error|value|events)",
        ANY,
        ANY,
        layouts.World(steps=("join", "ensure")),
        "SGLang's ensure_model_parallel_initialized passes the backend where a size is expected, and cannot make "
        "groups. The reference makes them.",
        gone="0.5.15",
    ),
)


def explained(found: Sequence[Difference], subject: str, release: str) -> tuple[list[Known], list[Difference]]:
    """The entries that explain some of what was found, and what none of them explains."""
    entries = [known for known in KNOWN if known.subject == subject and known.holds(release)]
    used = [known for known in entries if any(known.explains(difference) for difference in found)]
    rest = [difference for difference in found if not any(known.explains(difference) for known in used)]
    return used, rest
