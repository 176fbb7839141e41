"""Members that core asks for and the plugin leaves to a default that raises, or that may not suit its device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...contract.model import Member
from ..finding import Finding, Severity
from ..reading.classes import Lineage, lookup
from ..reading.host import BASES
from ..reading.seen import Seen
from ..reading.values import Class
from .superseded import SUCCESSORS

# Defaults that answer, and may answer wrongly for a device of a vendor's.
_UNSUITED: Mapping[str, str] = {
    # 0.5.14 on: the table of known devices, and gloo for all others (srt/platforms/device_mixin.py).
    "get_torch_distributed_backend_str": "the default knows SGLang's own devices only, and gives gloo for any other",
    # 0.5.23, srt/platforms/interface.py.
    "get_group_coordinator_device": "the default is the CPU, so the group's collectives go by gloo",
}


def find(seen: Seen) -> Iterator[Finding]:
    """Each member that core calls, and that no class of the plugin overrides."""
    for lineage in seen.lineages:
        if lineage.open:
            continue
        of = lineage.steps[0]
        for member in seen.release.contract.called():
            found = lookup(lineage, member.name, seen.release)
            left = not lineage.sets(member.name) and (found is None or found.owner in BASES)
            why = _why(member)
            if not left or not why or not isinstance(of, Class) or not seen.asks(lineage, member.name):
                continue
            if not _spelt_otherwise(lineage, member):
                yield Finding(
                    "reachable",
                    Severity.REACHABLE,
                    member.name,
                    f"core asks for {member.name}, which the plugin leaves to the default",
                    seen.place(of),
                    f"{why}; core uses it at {member.calls[0]}",
                    f"override {member.name}{member.signature}, or make sure that the path is not taken",
                )


def _why(member: Member) -> str:
    if member.default.kind == "raises":
        return f"the default raises {member.default.value}"
    return _UNSUITED.get(member.name, "")


def _spelt_otherwise(of: Lineage, member: Member) -> bool:
    """Whether the plugin has it under the name of an older release, of which another finding speaks."""
    older = {name for name, successor in SUCCESSORS.items() if member.name in successor.names}
    return any(name in step.names for step in of.steps if isinstance(step, Class) for name in older)
