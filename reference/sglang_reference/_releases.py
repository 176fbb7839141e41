"""SGLang's release numbers, compared."""

from __future__ import annotations

import functools
import re


@functools.cache
def numbers(release: str) -> tuple[int, ...]:
    """The first three numbers of a release: (0, 5, 22) of ``0.5.22`` and of ``0.5.22.post1``."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:3])


def within(release: str, first: str = "", gone: str = "") -> bool:
    """Whether a release is ``first`` or later, and before ``gone``; empty is no bound."""
    at = numbers(release)
    return (not first or numbers(first) <= at) and (not gone or at < numbers(gone))
