"""Other right ways with the server's arguments."""

from __future__ import annotations

from zoo.workshop import Variant

VARIANTS: tuple[Variant, ...] = ()
