"""The contract table that the reference follows, for its own modules.

``TABLE`` is put here by :func:`sglang_reference.install` before this file runs: the chosen release's contract as plain
JSON data.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

TABLE: Mapping[str, Any] = globals().get("TABLE", {})

if not TABLE:
    raise ImportError(
        "the SGLang reference has no contract table; call sglang_reference.install(table) and import sglang.srt"
    )


def since(release: str) -> bool:
    """Whether the table's release is ``release`` (as ``0.5.22``) or a later one."""
    return _numbers(TABLE["release"]) >= _numbers(release)


@functools.cache
def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:3])


def distributed_backends() -> dict[str, str]:
    """The torch.distributed backend of each device, with the exceptions that the environment switches on now."""
    from .environ import envs

    backends: dict[str, str] = dict(TABLE["backends"]["table"])
    for switch in TABLE["backends"]["switches"]:
        if getattr(envs, switch["environment"]).get() > switch["above"]:
            backends[switch["device"]] = switch["backend"]
    return backends
