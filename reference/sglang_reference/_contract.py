"""The contract table that the reference follows, for its own modules.

``TABLE`` is put here by :func:`sglang_reference.install` before this file runs: the chosen release's contract as plain
JSON data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sglang_reference._releases import within

TABLE: Mapping[str, Any] = globals().get("TABLE", {})

if not TABLE:
    raise ImportError(
        "the SGLang reference has no contract table; call sglang_reference.install(table) and import sglang.srt"
    )


def since(release: str) -> bool:
    """Whether the table's release is ``release`` (as ``0.5.22``) or a later one."""
    return within(TABLE["release"], release)


def distributed_backends() -> dict[str, str]:
    """The torch.distributed backend of each device, with the exceptions that the environment switches on now."""
    from .environ import envs

    backends: dict[str, str] = dict(TABLE["backends"]["table"])
    for switch in TABLE["backends"]["switches"]:
        if getattr(envs, switch["environment"]).get() > switch["above"]:
            backends[switch["device"]] = switch["backend"]
    return backends
