"""SGLang's release numbers, compared."""

from __future__ import annotations

import functools
import re

_FORM = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:\.post(\d+))?")


@functools.cache
def numbers(release: str) -> tuple[int, ...]:
    """A release as numbers that compare as releases do: (0, 5, 22, 0) of ``0.5.22``, (0, 5, 22, 1) of ``0.5.22.post1``.

    What else follows the three numbers says nothing. Raises ValueError for a text that has no three of them.
    """
    found = _FORM.match(release)
    if found is None:
        raise ValueError(f"{release!r} is no release of SGLang: three numbers are needed, as in 0.5.22")
    return tuple(int(number or 0) for number in found.groups())


def within(release: str, first: str = "", gone: str = "") -> bool:
    """Whether a release is ``first`` or later, and before ``gone``; empty is no bound."""
    at = numbers(release)
    return (not first or numbers(first) <= at) and (not gone or at < numbers(gone))
