"""How figures and tables are laid out for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH = 100
"""Columns of the terminal that everything fits."""


@dataclass(frozen=True)
class Columns:
    """The widths of a table's columns, and which of them stand to the left, two columns from the one before."""

    widths: tuple[int, ...]
    left: tuple[int, ...] = ()

    def row(self, cells: Sequence[str]) -> str:
        """One line."""
        padded = (
            f"  {cell:<{width - 2}}" if number in self.left else f"{cell:>{width}}"
            for number, (cell, width) in enumerate(zip(cells, self.widths, strict=True))
        )
        return "".join(padded).rstrip()

    def head(self, lines: Sequence[Sequence[str]]) -> Iterator[str]:
        """The lines of names, and a rule below them."""
        yield from map(self.row, lines)
        yield "-" * sum(self.widths)


def digits(value: float, count: int) -> str:
    """A number with so many digits that count, as far as that needs no more than four places."""
    places = count - 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, min(4, places))}f}"


def sized(size: int) -> str:
    """Bytes in the largest unit in which they are a whole number, or in one of a tenth of it."""
    for unit, step in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= step and (10 * size) % step == 0:
            return f"{size / step:g} {unit}"
    return f"{size} B"
