"""A rank's device among those of its machine, and what a process group has for each kind of device.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from .. import expect
from ..aids import worker
from ..member import Member


def of_another(platform: Any, member: Member) -> tuple[int, Any]:
    """The local rank and the device of the rank that counts as many from the end as this one from the start."""
    found = worker.devices(platform)
    other = member.size - 1 - member.number
    return (other, found[0]) if found[0].type == "cpu" else (other % len(found), found[other % len(found)])


def current(device: Any) -> int:
    """The index of the current device of the same type; 0 for the host, which has only one."""
    import torch

    return 0 if device.type == "cpu" else int(torch.get_device_module(device).current_device())


def index(device: Any) -> int:
    """The index of a device; that of the current one where it has none."""
    return current(device) if device.index is None else int(device.index)


def tensor_on(device: Any) -> Any:
    """A small tensor made there."""
    import torch

    return torch.zeros(1, device=device)


def backends(text: str) -> dict[str, str]:
    """The backend of each kind of device in a backend's string, as torch reads it."""
    from torch.distributed.distributed_c10d import Backend, BackendConfig

    return {str(kind): str(name) for kind, name in BackendConfig(Backend(text)).get_device_backend_map().items()}


def backends_of(group: Any, call: str) -> expect.Answer:
    """The backend that a process group (None: the default one) has for each kind of device."""
    import torch.distributed as dist

    return expect.attempt(call, lambda: backends(str(dist.get_backend_config(group))))


def timeout_of(group: Any, device: Any) -> float | None:
    """The seconds that a group's backend for a device waits; None where it does not say."""
    try:
        return float(group._get_backend(device).options._timeout.total_seconds())
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
