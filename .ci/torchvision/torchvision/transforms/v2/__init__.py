"""The second version of it."""

from __future__ import annotations

from torchvision.transforms.v2 import functional

__all__ = ["functional"]
