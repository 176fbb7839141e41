"""The contract table that the reference follows, for its own modules.

``TABLE`` and ``SERVER_ARGUMENTS`` are put here by :func:`sglang_reference.install` before this file runs: the chosen
release's contract as plain JSON data, and the table of its server arguments, what gives that, or None.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from sglang_reference._errors import not_covered
from sglang_reference._releases import within

TABLE: Mapping[str, Any] = globals().get("TABLE", {})
SERVER_ARGUMENTS: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = globals().get("SERVER_ARGUMENTS")

if not TABLE:
    raise ImportError(
        "the SGLang reference has no contract table; call sglang_reference.install(table) and import sglang.srt"
    )


def since(release: str) -> bool:
    """Whether the table's release is ``release`` (as ``0.5.22``) or a later one."""
    return within(TABLE["release"], release)


@functools.cache
def server_arguments() -> Mapping[str, Any]:
    """The table of the release's server arguments, as plain JSON data. Raises NotCovered where none was given."""
    if SERVER_ARGUMENTS is None:
        raise not_covered("sglang.srt.server_args without a table of the release's server arguments")
    return SERVER_ARGUMENTS() if callable(SERVER_ARGUMENTS) else SERVER_ARGUMENTS


def distributed_backends() -> dict[str, str]:
    """The torch.distributed backend of each device, with the exceptions that the environment switches on now."""
    from .environ import envs

    backends: dict[str, str] = dict(TABLE["backends"]["table"])
    for switch in TABLE["backends"]["switches"]:
        if getattr(envs, switch["environment"]).get() > switch["above"]:
            backends[switch["device"]] = switch["backend"]
    return backends
