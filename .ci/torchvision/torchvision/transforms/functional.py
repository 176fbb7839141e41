"""Changing one image."""

from __future__ import annotations

from typing import NoReturn

from torchvision._modes import InterpolationMode

__all__ = ["InterpolationMode", "pil_to_tensor"]


def pil_to_tensor(*args: object, **kwargs: object) -> NoReturn:
    """Raises RuntimeError: nothing without images calls it."""
    raise RuntimeError(
        "torchvision's pil_to_tensor is not here: this is CI's stand-in for machines without an accelerator"
    )
