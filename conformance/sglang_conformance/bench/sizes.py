"""Sizes, types and other lists as they are written on the command line. Errors say what to write instead."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator

from ..errors import OptionError
from .model import ITEM_BYTES, LEAST_RANKS, MOST_RANKS

DEFAULT_SIZES = "1K,64K,1M,16M"
LEAST, MOST, FACTOR = "1K", "16M", 2

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MOST_BYTES = 1 << 40
_MOST_STEPS = 64


def size(text: str, option: str) -> int:
    """Bytes, of a number with or without K, M or G, which count in steps of 1024 as in nccl-tests."""
    matched = _SIZE.fullmatch(text.strip())
    found = float(matched[1]) * _UNITS[matched[2].upper()] if matched else 0.0
    if not 1 <= found <= _MOST_BYTES or found != int(found):
        raise OptionError(f"{option}={text}: a whole number of bytes is needed, as in 512, 64K, 1.5M or 1G")
    return int(found)


def sizes(
    listed: str | None, least: str | None, most: str | None, factor: float | None, dtypes: Collection[str]
) -> tuple[int, ...]:
    """The sizes of a run, smallest first: those listed, or the steps from one to another."""
    stepped = least is not None or most is not None or factor is not None
    if listed is not None and stepped:
        raise OptionError("--sizes lists sizes, --min, --max and --factor step through them: leave one of both out")
    found = set(_steps(least or LEAST, most or MOST, FACTOR if factor is None else factor)) if stepped else set()
    if not stepped:
        found = {size(each, "--sizes") for each in _parts(listed or DEFAULT_SIZES, "--sizes", "1K,64K,1M")}
    widest = max(ITEM_BYTES[dtype] for dtype in dtypes)
    if min(found) < widest:
        raise OptionError(f"{min(found)} bytes hold no element of {', '.join(dtypes)}: {widest} bytes are the least")
    return tuple(sorted(found))


def _steps(least: str, most: str, factor: float) -> Iterator[int]:
    low, high = size(least, "--min"), size(most, "--max")
    if low > high:
        raise OptionError(f"--min={least} is more than --max={most}: give the smaller one as --min")
    if not 1 < factor < math.inf:
        raise OptionError(f"--factor={factor:g}: each size is the one before by this; more than 1 is needed, as in 2")
    steps = 0
    while low <= high:
        yield low
        low = max(low + 1, int(low * factor))
        steps += 1
        if steps > _MOST_STEPS:
            raise OptionError(f"--factor={factor:g} makes more than {_MOST_STEPS} sizes: give a larger one, as in 2")


def dtypes(text: str) -> tuple[str, ...]:
    """Types by torch's names, in the order given."""
    return _names(text, "--dtype", ITEM_BYTES, "float32,bfloat16")


def engines(text: str | None, known: Collection[str]) -> tuple[str, ...]:
    """Engines in the order of the table; None: all of them."""
    given = set(known if text is None else _names(text, "--engines", known, ",".join(known)))
    return tuple(name for name in known if name in given)


def world_sizes(text: str | None) -> tuple[int, ...] | None:
    """Numbers of ranks, smallest first; None: as the devices allow."""
    if text is None:
        return None
    numbers = _parts(text, "--world-size", "2,4")
    if not all(each.isascii() and each.isdigit() and LEAST_RANKS <= int(each) <= MOST_RANKS for each in numbers):
        raise OptionError(
            f"--world-size={text}: numbers of ranks from {LEAST_RANKS} to {MOST_RANKS} are needed, as in 2,4"
        )
    return tuple(sorted({int(each) for each in numbers}))


def _names(text: str, option: str, known: Collection[str], example: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(_parts(text, option, example)))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise OptionError(f"{option}={text}: {unknown[0]!r} is none of {', '.join(known)}")
    return names


def _parts(text: str, option: str, example: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise OptionError(f"{option} is empty: give a list, as in {example}")
    return parts
