"""Other right ways to package a plugin."""

from __future__ import annotations

from zoo.workshop import Variant

VARIANTS: tuple[Variant, ...] = ()
