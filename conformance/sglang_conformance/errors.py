"""The error that commands and runs tell by a line of its own; it stands here, as what raises it may import no more."""

from __future__ import annotations


class OptionError(ValueError):
    """An option's value cannot be used; the message says why, and what to give instead."""
