"""How the pixels between pixels are told."""

from __future__ import annotations

from enum import Enum


class InterpolationMode(Enum):
    """By the names of Pillow's filters."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"
