"""Other right ways to start a worker."""

from __future__ import annotations

from zoo.workshop import Variant

VARIANTS: tuple[Variant, ...] = ()
