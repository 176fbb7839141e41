"""What ranks know of each other without a collective: whose memory they share, and how many have come by.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from ..member import Member

_SHARED_MEMORY = "/dev/shm"


def memory() -> str:
    """Names the shared memory of this process: the machine since it was started, and what is mounted there."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{file.read().strip()} {os.stat(_SHARED_MEMORY).st_dev}"


@dataclass(frozen=True)
class Counts:
    """Numbers that all ranks see, in the store at which they met, under names of one check's own."""

    store: Any
    token: str
    seconds: float

    def add(self, name: str) -> None:
        """Count this rank."""
        self.store.add(f"{self.token} {name}", 1)

    def read(self, name: str) -> int:
        """How many ranks were counted."""
        return int(self.store.add(f"{self.token} {name}", 0))

    def wait(self, name: str, count: int) -> None:
        """Wait until so many ranks were counted; RuntimeError where they do not come in time."""
        until = time.monotonic() + self.seconds
        while self.read(name) < count:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.read(name)} of {count} ranks came to {name!r} within {self.seconds:g} s")
            time.sleep(0.001)


def counts(member: Member) -> Counts:
    """Counts that start at nought; all ranks ask for them."""
    import torch.distributed as dist
    from torch.distributed import distributed_c10d

    parcel = [os.urandom(8).hex() if member.number == 0 else None]
    dist.broadcast_object_list(parcel, src=0, group=member.coordinator.cpu_group)
    return Counts(distributed_c10d._get_default_store(), f"conformance {parcel[0]}", member.seconds)
