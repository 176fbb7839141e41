"""Ranks that come to their calls at different times, as those of a server do: what only works in step shows then.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..member import Member

_LONGEST = 0.001  # seconds; several times what a small collective takes


def at_odd_times(member: Member) -> Callable[[], None]:
    """What a rank calls before each of its collectives: now and then it pauses, each rank at times of its own."""
    pauses = random.Random(member.number)

    def pause() -> None:
        if pauses.random() < 0.5:
            time.sleep(pauses.random() * _LONGEST)

    return pause
