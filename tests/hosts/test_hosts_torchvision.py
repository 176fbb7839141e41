"""The one function of torchvision that CI gives older releases of SGLang."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parents[2] / ".ci" / "torchvision" / "torchvision" / "io.py"
image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def decode() -> Callable[..., torch.Tensor]:
    spec = importlib.util.spec_from_file_location("torchvision_of_ci", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., torch.Tensor] = module.decode_jpeg
    return function


def encoded(mode: str, colour: tuple[int, ...] | int) -> torch.Tensor:
    """The bytes of an image of 5 columns and 3 rows, all of one colour."""
    file = io.BytesIO()
    image.new(mode, (5, 3), colour).save(file, "JPEG", quality=95)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def test_pixels_are_channels_rows_and_columns(decode: Callable[..., torch.Tensor]) -> None:
    pixels = decode(encoded("RGB", (200, 10, 30)))
    assert (pixels.shape, pixels.dtype) == ((3, 3, 5), torch.uint8)
    wanted = torch.tensor([200, 10, 30]).view(3, 1, 1)
    assert (pixels.int() - wanted).abs().max() <= 3
    assert decode(encoded("L", 99)).shape == (1, 3, 5)


def test_other_devices_are_refused(decode: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(RuntimeError, match="no JPEG is decoded on cuda here"):
        decode(encoded("L", 0), device="cuda")
