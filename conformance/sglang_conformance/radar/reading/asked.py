"""What core asks of a platform only where the platform has said that it can."""

from __future__ import annotations

from collections.abc import Mapping

from .classes import Lineage, lookup
from .host import BASES, Release
from .values import Class, Const, Table, Value, truth

# A member, and what decides whether core asks for it: a method's answer, or a field of the capabilities, whichever the
# release has. No default says yes (0.5.11 and 0.5.21: srt/platforms/interface.py; from 0.5.22 on the struct there; for
# speculation 0.5.21 and 0.5.23, srt/arg_groups/speculative_hook.py).
DECIDED_BY: Mapping[str, tuple[str, ...]] = {
    "get_graph_runner_cls": ("support_cuda_graph", "capabilities.graph_capture"),
    "get_full_graph_backend_cls": ("support_cuda_graph", "capabilities.graph_capture"),
    "get_piecewise_backend_cls": ("support_piecewise_cuda_graph", "capabilities.piecewise_graph"),
    "get_speculative_graph_runner_cls": ("capabilities.graph_capture",),
    "get_default_speculative_draft_attention_backend": ("supports_speculative_algorithm",),
    "supports_speculative_draft_attention_backend": ("supports_speculative_algorithm",),
}
DECIDING = frozenset(name.partition(".")[0] for names in DECIDED_BY.values() for name in names)


def is_asked(member: str, lineage: Lineage, release: Release, answers: Mapping[str, Value]) -> bool:
    """Whether core comes to ask a platform for a member; ``answers`` is what its own deciding methods give."""
    names = [name for name in DECIDED_BY.get(member, ()) if release.contract.has(name.partition(".")[0])]
    return not names or any(_says_yes(name, lineage, release, answers) for name in names)


def _says_yes(name: str, lineage: Lineage, release: Release, answers: Mapping[str, Value]) -> bool:
    """Whether one of them may say yes; a default does not, and what cannot be told may."""
    name, _, field = name.partition(".")
    found = lookup(lineage, name, release)
    if lineage.sets(name):
        return True
    if found is None or found.owner in BASES:
        return False
    if not isinstance(found.owner, Class):
        return True
    if field and isinstance(found.value, Table):
        return any(key == Const(field) and truth(given) is not False for key, given in found.value.items)
    return truth(answers.get(name, found.value)) is not False
