"""Reading images."""

from __future__ import annotations

import io
from enum import Enum
from typing import NoReturn

import numpy
import torch
from PIL import Image


class ImageReadMode(Enum):
    """Which channels are read."""

    UNCHANGED = 0
    GRAY = 1
    GRAY_ALPHA = 2
    RGB = 3
    RGB_ALPHA = 4


def decode_image(*args: object, **kwargs: object) -> NoReturn:
    """Raises RuntimeError: nothing without images calls it."""
    raise RuntimeError(
        "torchvision's decode_image is not here: this is CI's stand-in for machines without an accelerator"
    )


def decode_jpeg(encoded: torch.Tensor, *, device: str | torch.device = "cpu") -> torch.Tensor:
    """The pixels of a JPEG, bytes of channels, rows and columns; ``encoded``: its bytes, one-dimensional.

    Raises RuntimeError for a device other than the CPU, upon which SGLang decodes on the CPU itself.
    """
    if torch.device(device).type != "cpu":
        raise RuntimeError(f"no JPEG is decoded on {device} here")
    pixels = numpy.array(Image.open(io.BytesIO(encoded.numpy().tobytes())))
    return torch.from_numpy(numpy.atleast_3d(pixels)).permute(2, 0, 1).contiguous()
