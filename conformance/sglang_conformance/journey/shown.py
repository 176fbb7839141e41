"""Values shown short, without running anybody's code: no ``repr`` of the vendor's, no operation on a device."""

from __future__ import annotations

import enum
import sys
from typing import Any

LONGEST = 60
_ITEMS = 4
_PLAIN = (bool, int, float, complex, type(None))


def shown(value: Any, depth: int = 2) -> str:
    """A value as a word or two: a class by its name, a tensor by dtype and shape, any other object as ``a Name``."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if kind is str or kind is bytes:
        return repr(value if len(value) <= LONGEST else value[: LONGEST - 1]) + ("…" if len(value) > LONGEST else "")
    if isinstance(value, type):
        return f"class {_name(value)}"
    if isinstance(value, enum.Enum):
        return f"{_name(kind)}.{value._name_}"
    if kind in (tuple, list, set, frozenset):
        return _sequence(value, depth)
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return f"{_name(kind)}{_sequence(tuple(tuple.__iter__(value)), depth)}"
    if kind is dict:
        return _mapping(value, depth)
    return _of_torch(value) or _object(value)


def raised(error: BaseException) -> str:
    """An error as one line; its class alone where it cannot say what it is."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    text = text if len(text) <= 300 else f"{text[:299]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _name(kind: type) -> str:
    return str(type.__getattribute__(kind, "__qualname__"))


def _object(value: Any) -> str:
    kind = type(value)
    if kind.__module__ == "builtins" and kind.__name__ in ("function", "method", "builtin_function_or_method"):
        return f"{value.__qualname__}()"
    name = _name(kind).rpartition(".")[2]
    if name == "_GeneratorContextManager":
        return "a context manager"
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def _sequence(value: Any, depth: int) -> str:
    left, right = "()" if type(value) is tuple else "[]" if type(value) is list else "{}"
    if depth == 0:
        return f"{left}…{right}" if value else left + right
    items = [shown(item, depth - 1) for _, item in zip(range(_ITEMS), value, strict=False)]
    if len(value) > _ITEMS:
        items.append("…")
    comma = "," if type(value) is tuple and len(value) == 1 else ""
    return f"{left}{', '.join(items)}{comma}{right}"


def _mapping(value: dict[Any, Any], depth: int) -> str:
    if depth == 0:
        return "{…}" if value else "{}"
    pairs = zip(range(_ITEMS), value.items(), strict=False)
    items = [f"{shown(key, 0)}: {shown(item, depth - 1)}" for _, (key, item) in pairs]
    return f"{{{', '.join(items)}{', …' if len(value) > _ITEMS else ''}}}"


def _of_torch(value: Any) -> str:
    """A tensor, or one of torch's own plain values; the process need not have imported torch."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "Tensor"):
        return ""
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    if type(value) is torch.Size:
        return str(tuple(value))
    if isinstance(value, torch.Tensor):
        try:
            return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        except Exception:  # a subclass that answers in its own ways
            return ""
    return ""
