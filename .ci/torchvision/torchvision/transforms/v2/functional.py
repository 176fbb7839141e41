"""Changing one image, in the second version."""

from __future__ import annotations

from torchvision._modes import InterpolationMode

__all__ = ["InterpolationMode"]
