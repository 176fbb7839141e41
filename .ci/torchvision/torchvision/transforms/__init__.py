"""Changing images: the names that are imported, no more."""

from __future__ import annotations

from torchvision._modes import InterpolationMode
from torchvision.transforms import functional

__all__ = ["InterpolationMode", "functional"]
