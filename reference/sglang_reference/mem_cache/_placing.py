"""Classes of the memory part that several modules of SGLang have, by release."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._released import Lifetime, absent

T = TypeVar("T", bound=type)


def placed(module: str, **members: Lifetime) -> Callable[[T], T]:
    """Class decorator: the class is ``sglang.srt.mem_cache.<module>``'s, as tracebacks, hooks and pickling name it.

    Those of its ``members`` that the table's release does not have are taken from it.
    """

    def place(cls: T) -> T:
        cls.__module__ = f"sglang.srt.mem_cache.{module}"
        for name in absent(members):
            delattr(cls, name)
        return cls

    return place
