"""What the built-in platforms have in common: how ``get_device`` is called, and for which target memory is pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._released import Parameters, Renamed

if TYPE_CHECKING:
    import torch

GET_DEVICE = Parameters(
    renamed={"device_id": Renamed("local_rank", "0.5.22")},
    defaulted={"device_id": "0.5.22"},
)
"""The built-in platforms followed the base class's ``device_id=0`` of 0.5.13 only in 0.5.22."""


def pinned_for(device: torch.device | str | None) -> bool:
    """Whether host memory is pinned for this target: for any but the CPU."""
    return device is None or str(device) != "cpu"
