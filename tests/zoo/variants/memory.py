"""Other right answers about memory."""

from __future__ import annotations

from zoo.workshop import Variant

VARIANTS: tuple[Variant, ...] = ()
