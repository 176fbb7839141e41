"""The fields of the release's server arguments, as its table tells them.

The reference is told them by ``sglang_reference.install(table, server_arguments)``; without, importing this raises
NotCovered.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from .._contract import server_arguments, since

_TABLE: Mapping[str, Any] = server_arguments()
_COMPUTED = {"pre_warm_nccl": False}  # True on ROCm alone (0.5.11 to 0.5.13, srt/server_args.py)
_CONSTANT = (str, int, float, type(None))

REQUIRED: tuple[str, ...] = tuple(_TABLE["required"])
"""What has no default: the model's path."""

DEFAULTS: Mapping[str, Any] = {
    **{name: value for name, value in _TABLE["fields"].items() if name not in REQUIRED},
    **{name: _COMPUTED[name] for name in _TABLE["computed"]},
}
NAMES = frozenset([*REQUIRED, *DEFAULTS])
MEMBERS = frozenset(_TABLE["members"])
"""What else SGLang's class has: methods, properties and constants."""

ATTENTION_BACKENDS: tuple[str, ...] = tuple(_TABLE["attention_backends"])
QUANTIZATIONS: tuple[str, ...] = tuple(_TABLE["quantizations"])

RESOLVED_WHEN_MADE = not since("0.5.19")
"""Whether making the object resolves it, in place; later releases do so on demand, and keep decisions aside."""

RECORDS_WRITES: bool = _TABLE["records_writes"]
"""Whether a platform is handed a view that records what it assigns, in place of the object."""


def default(name: str) -> Any:
    """A field's default, each time a new one where it can be altered."""
    value = DEFAULTS[name]
    return value if isinstance(value, _CONSTANT) else copy.deepcopy(value)
