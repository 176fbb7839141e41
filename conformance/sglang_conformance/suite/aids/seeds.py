"""Random numbers of the host and of the devices, to tell what a seed does.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from .. import expect
from . import worker

Devices = tuple[Any, ...]


def drawn_after(platform: Any, devices: Devices, seed: int) -> dict[str, list[float]]:
    """Seed everything, then draw."""
    expect.ask(platform, "seed_everything", seed)
    return drawn(devices)


def drawn(devices: Devices) -> dict[str, list[float]]:
    """Eight numbers of the host and of each device, by the source's name."""
    import torch

    host = {"the host": torch.rand(8).tolist()}
    return {**host, **{str(device): worker.values(torch.rand(8, device=device)) for device in devices}}
