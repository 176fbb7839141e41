"""Classes that stand in one module of SGLang and are written in several here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._released import Lifetime, absent

T = TypeVar("T", bound=type)


def placed(module: str, **members: Lifetime) -> Callable[[T], T]:
    """Class decorator: the class is ``sglang.srt.managers.<module>``'s, as tracebacks, hooks and pickling name it.

    Those of its ``members`` that the table's release does not have are taken from it.
    """

    def place(cls: T) -> T:
        cls.__module__ = f"sglang.srt.managers.{module}"
        for name in absent(members):
            delattr(cls, name)
        return cls

    return place
