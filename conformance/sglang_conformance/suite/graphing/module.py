"""Torch's module of a device, as far as graphs go: its streams, and what makes a graph.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...contract.model import Contract
from .. import expect
from ..aids import worker
from ..aids.construction import declares_graphs

STREAMS = ("Stream", "stream", "current_stream")


def of(device: Any) -> Any:
    """Torch's module of a device. Declined where it has no streams, as the host's has none to capture."""
    import torch

    module = None if device.type == "cpu" else torch.get_device_module(device)
    if not all(hasattr(module, name) for name in STREAMS):
        raise expect.Declined(f"torch.{device.type} has no streams to capture")
    return module


def maker(device: Any) -> Callable[[], Any]:
    """What makes a graph of the device. Declined where torch's module has none, by the names that vendors give it."""
    module = of(device)
    names = (f"{device.type.upper()}Graph", "CUDAGraph", "Graph")
    found = next((getattr(module, name) for name in names if hasattr(module, name)), None)
    if found is None or not hasattr(module, "graph"):
        raise expect.Declined(f"torch has no graphs of {device.type} to make: neither {' nor '.join(names)}")
    make: Callable[[], Any] = found
    return make


def started(platform: Any, contract: Contract) -> Any:
    """The first device, started and current. Declined where the platform declares no graphs."""
    if not declares_graphs(platform, contract):
        raise expect.Declined("the platform declares no graph capture")
    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    return device


def is_capturing(module: Any) -> bool:
    """Whether torch's module says that its current stream is captured; Declined where it does not say."""
    ask = getattr(module, "is_current_stream_capturing", None)
    if ask is None:
        raise expect.Declined("torch's module of the device does not say whether a stream is captured")
    return bool(ask())


def allocated(module: Any) -> int:
    """How many bytes tensors hold on the current device. Declined where it does not say."""
    ask = getattr(module, "memory_allocated", None)
    if ask is None:
        raise expect.Declined("torch's module of the device does not say what tensors hold")
    return int(ask())
