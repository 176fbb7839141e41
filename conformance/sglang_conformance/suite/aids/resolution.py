"""The class that a platform resolved to: its path, and what of it is the vendor's and what is SGLang's.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...hosts.enter import resolve_afresh


def class_path(platform: Any) -> str:
    """The dotted path of a platform's class."""
    return f"{type(platform).__module__}.{type(platform).__qualname__}"


def class_afresh(kind: str, table: Mapping[str, Any]) -> str:
    """The same of the platform that is resolved in this process, which has just begun."""
    return class_path(resolve_afresh(kind, table))


def is_sglangs(kind: type) -> bool:
    """Whether a class is SGLang's own (or Python's ``object``), on either host."""
    return kind.__module__.partition(".")[0] in ("sglang", "builtins")


def vendor_owner(platform: Any, member: str) -> type | None:
    """The first class of the vendor's that defines a member, in the order in which Python looks; None without one."""
    return next((c for c in type(platform).__mro__ if not is_sglangs(c) and member in vars(c)), None)


def owner(platform: Any, member: str) -> type | None:
    """The class whose definition of a member Python uses; None where no class has one."""
    return next((c for c in type(platform).__mro__ if member in vars(c)), None)


def overrides(platform: Any, member: str) -> bool:
    """Whether what answers for a member is the vendor's."""
    found = owner(platform, member)
    return found is not None and not is_sglangs(found)


def start_device(platform: Any) -> None:
    """Start the platform's device as a worker does, for a check that needs it; INIT judges whether that works."""
    try:
        platform.init_backend()
    except Exception:
        return
