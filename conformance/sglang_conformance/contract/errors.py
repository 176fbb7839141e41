"""What goes wrong when a contract is read: one exception, one clear line."""

from __future__ import annotations


class ContractError(ValueError):
    """A contract cannot be read: no such table, not an SGLang package, or a package that is damaged."""
