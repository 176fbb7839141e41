"""What torch's operators are called with and give back: values, and lists of them.

torch's own trees (``torch.utils._pytree``) know many more kinds, and take longer than most operations on small tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def leaves(values: Iterable[Any]) -> list[Any]:
    """The values, with those of lists among them in their places."""
    found = []
    for value in values:
        if isinstance(value, (list, tuple)):
            found += leaves(value)
        else:
            found.append(value)
    return found


def changed(change: Callable[[Any], Any], values: Any) -> Any:
    """The same values and lists with each value changed; a tuple for a tuple, a list for any other collection."""
    made = [changed(change, value) if isinstance(value, (list, tuple)) else change(value) for value in values]
    return tuple(made) if isinstance(values, tuple) else made


def changed_by_name(change: Callable[[Any], Any], values: dict[str, Any]) -> dict[str, Any]:
    """The same of named values."""
    return dict(zip(values, changed(change, values.values()), strict=True)) if values else {}
