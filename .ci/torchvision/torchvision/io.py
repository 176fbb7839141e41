"""Reading images."""

from __future__ import annotations

import io

import numpy
import torch
from PIL import Image


def decode_jpeg(encoded: torch.Tensor, *, device: str | torch.device = "cpu") -> torch.Tensor:
    """The pixels of a JPEG, bytes of channels, rows and columns; ``encoded``: its bytes, one-dimensional.

    Raises RuntimeError for a device other than the CPU, upon which SGLang decodes on the CPU itself.
    """
    if torch.device(device).type != "cpu":
        raise RuntimeError(f"no JPEG is decoded on {device} here")
    pixels = numpy.array(Image.open(io.BytesIO(encoded.numpy().tobytes())))
    return torch.from_numpy(numpy.atleast_3d(pixels)).permute(2, 0, 1).contiguous()
