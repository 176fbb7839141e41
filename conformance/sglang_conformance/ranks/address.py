"""Addresses as they are given on the command line.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations


class AddressError(ValueError):
    """It is not an address; the message says what one looks like."""


def parsed(text: str) -> tuple[str, int]:
    """``HOST:PORT`` in two; an IPv6 address stands in brackets. Raises AddressError where it is something else."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not port.isdecimal() or int(port) > 0xFFFF:
        raise AddressError(f"{text!r} is not HOST:PORT, as in node0:29600 or [::1]:29600")
    return bare, int(port)


def joined(host: str, port: int) -> str:
    """The text that :func:`parsed` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
