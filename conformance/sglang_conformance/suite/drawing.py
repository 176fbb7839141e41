"""How hypothesis draws for a run: the same examples each time and everywhere, so that certificates can be compared,
and nothing kept in files.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def drawing(examples: int, *, shrink: bool = True, given: bool = True) -> Any:
    """Hypothesis's settings for a run; ``given``: the examples that the property itself names come first."""
    from hypothesis import HealthCheck, Phase, Verbosity, settings

    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(*((Phase.explicit,) if given else ()), Phase.generate, *((Phase.shrink,) if shrink else ())),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )


@contextlib.contextmanager
def alike() -> Iterator[None]:
    """Have hypothesis draw alike whatever modules this process has imported.

    From 6.131 on it also draws constants that it reads in the modules of the project at hand. There is no setting for
    that: what is drawn would hang on how and where a plugin, or the kit, is installed.
    """
    from hypothesis.internal.conjecture import providers
    from hypothesis.internal.constants_ast import Constants

    ours = {"_get_local_constants": Constants, "CONSTANTS_CACHE": {}}  # no constants, and none kept from before
    found = {name: getattr(providers, name) for name in ours}
    vars(providers).update(ours)
    try:
        yield
    finally:
        vars(providers).update(found)


def texts(characters: str, *, least: int = 0, most: int) -> SearchStrategy[str]:
    """Texts of these characters, of so many.

    For its own ``text()`` hypothesis first makes a table of all of Unicode, which takes seconds, and keeps it in a file
    below the current folder.
    """
    from hypothesis import strategies as st

    return st.lists(st.sampled_from(characters), min_size=least, max_size=most).map("".join)
