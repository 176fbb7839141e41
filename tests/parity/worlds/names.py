"""The modules and classes whose names are told: there are few, and all of them are drawn."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..names import PARTIAL, WHOLE, World

WORLDS: Any = st.sampled_from((*WHOLE, *PARTIAL)).map(World)
"""Worlds of :mod:`parity.names`."""
