"""Memory accounting: who holds how many bytes of which simulated device."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch

# One lock serves the tracker and every ledger, so no order of taking them can be wrong. It must be re-entrant: the
# garbage collector may run a storage's finalizer while this thread holds it.
Lock: TypeAlias = AbstractContextManager[Any]

BLOCK = 512  # bytes; every allocation is rounded up to whole blocks, as device allocators do


class Ledger:
    """The bytes of one device, as its caching allocator sees them.

    ``allocated`` bytes belong to living storages. ``reserved`` bytes are held from the device: the allocated ones
    and those that were freed but are kept for the next allocation, until :meth:`empty_cache`. Always
    ``allocated <= reserved <= total``, and ``allocated <= peak``.
    """

    def __init__(self, index: int, total: int, lock: Lock) -> None:
        self.index = index
        self.total = total
        self.allocated = 0
        self.reserved = 0
        self.peak = 0
        self._lock = lock

    def require(self, nbytes: int) -> None:
        """Raise torch.OutOfMemoryError unless ``nbytes`` more would fit, cached bytes counting as free."""
        if self.allocated + rounded(nbytes) > self.total:
            raise torch.OutOfMemoryError(
                f"sim:{self.index} is out of memory: {nbytes} bytes asked for, {self.total - self.allocated} of "
                f"{self.total} free. Free tensors, or give the device more with SGLANG_SIM_MEMORY."
            )

    def take(self, nbytes: int) -> None:
        """Allocate ``nbytes``, a multiple of a block; raises torch.OutOfMemoryError and changes nothing."""
        with self._lock:
            self.require(nbytes)
            self.allocated += nbytes
            self.reserved = max(self.reserved, self.allocated)
            self.peak = max(self.peak, self.allocated)

    def give(self, nbytes: int) -> None:
        """Free ``nbytes``; they stay reserved."""
        with self._lock:
            self.allocated -= nbytes

    def empty_cache(self) -> None:
        """Hand every reserved byte that no storage holds back to the device."""
        with self._lock:
            self.reserved = self.allocated

    def reset_peak(self) -> None:
        """Let the peak start again from what is allocated now."""
        with self._lock:
            self.peak = self.allocated


class StorageTracker:
    """Charges each storage to its device once, however many views share it, and frees it when the last one dies."""

    def __init__(self, lock: Lock) -> None:
        self._held: dict[int, _Holding] = {}
        self._lock = lock

    def charge(self, host: torch.Tensor, ledger: Ledger) -> None:
        """Account for the storage behind ``host``; a storage that grew is charged the difference.

        Raises torch.OutOfMemoryError, before anything is booked, where it does not fit.
        """
        storage = host.untyped_storage()
        # The address of torch's own storage object: shared by all views, and unique while one of them lives.
        key = storage._cdata
        nbytes = rounded(storage.nbytes())
        with self._lock:
            holding = self._held.get(key)
            if holding is None:
                ledger.take(nbytes)
                holding = self._held[key] = _Holding(storage, self._free)
                holding.key, holding.ledger, holding.nbytes = key, ledger, nbytes
            elif nbytes > holding.nbytes:
                holding.ledger.take(nbytes - holding.nbytes)
                holding.nbytes = nbytes

    def _free(self, holding: _Holding) -> None:
        with self._lock:
            del self._held[holding.key]
        holding.ledger.give(holding.nbytes)


class _Holding(weakref.ref[torch.UntypedStorage]):
    """What a living storage holds of a device; a weak reference takes far less to make than a finalizer."""

    key: int
    ledger: Ledger
    nbytes: int


def rounded(nbytes: int) -> int:
    """``nbytes`` rounded up to whole blocks."""
    return -(-nbytes // BLOCK) * BLOCK
