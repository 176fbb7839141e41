"""The refusal of everything in SGLang that the reference does not hold."""

from __future__ import annotations


class NotCovered(ImportError):
    """A module, name or behaviour of SGLang that the reference does not cover; ``name`` is its dotted name.

    It says nothing about the plugin that asked: whether the code is right can only be seen beside the real SGLang.
    """


def not_covered(name: str) -> NotCovered:
    """The error to raise for ``name``, a dotted name of SGLang or a few words for a behaviour of it."""
    return NotCovered(
        f"the SGLang reference does not cover {name}; use --sglang=installed to check against the real SGLang",
        name=name,
    )
