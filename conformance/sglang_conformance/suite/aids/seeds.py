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


def repeats(platform: Any, devices: Devices) -> None:
    """A violation unless a source draws the same after one seed, twice, and something else after another."""
    drawings = [drawn_after(platform, devices, seed) for seed in (1234, 1234, 4321)]
    call = "platform.seed_everything(1234); torch.rand(8) on "
    for source in drawings[0]:
        expect.equal(drawings[1][source], drawings[0][source], call=f"{call}{source}, twice")
        expect.that(
            drawings[2][source] != drawings[0][source],
            expected="other numbers after another seed",
            seen="the same",
            call=f"platform.seed_everything(4321); torch.rand(8) on {source}",
        )


def drawn(devices: Devices) -> dict[str, list[float]]:
    """Eight numbers of the host and of each device, by the source's name."""
    import torch

    host = {"the host": torch.rand(8).tolist()}
    return {**host, **{str(device): worker.values(torch.rand(8, device=device)) for device in devices}}
