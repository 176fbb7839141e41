"""Other right plugins to select."""

from __future__ import annotations

from zoo.workshop import Variant

VARIANTS: tuple[Variant, ...] = ()
