"""Passing on in a ring: every rank to the next one, without any waiting for another that waits for it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..member import Member


def following(member: Member) -> int:
    """The rank after this one; after the last comes the first."""
    return (member.number + 1) % member.size


def preceding(member: Member) -> int:
    """The rank before this one."""
    return (member.number - 1) % member.size


def passed_on(member: Member, send: Callable[[], Any], receive: Callable[[], Any], *, odd_first: bool = False) -> Any:
    """What was received, where every rank sends and receives once: those of even number send first, or those of odd."""
    return in_turns(member.number % 2 == odd_first, send, receive)


def in_turns(sends_first: bool, send: Callable[[], Any], receive: Callable[[], Any]) -> Any:
    """What was received, by a rank that sends and receives once, in this order; its neighbours do so in the other."""
    if sends_first:
        send()
        return receive()
    received = receive()
    send()
    return received
