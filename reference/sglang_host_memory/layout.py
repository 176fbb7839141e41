"""Where things lie in memory that ranks share.

Behind a head lies a row of words for each rank, then a row for each ordered pair of ranks, then their buffers. A word
has eight bytes, is written by one process, and is read and written whole. What changes at another time, or is written
by another rank, lies in another line of the cache.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

WORD = 8  # bytes
LINE = 8  # words

# The head: what the first rank to come has said, the process of one that could not come in, and how many there were.
HEAD_SIZE, HEAD_BUFFER, HEAD_PAIR_BUFFER, HEAD_REFUSED, HEAD_REFUSALS = range(5)
# A rank's row: who it is, then how far it has come, then what it says.
STATE, PROCESS, STARTED, SPACE = range(4)
STEP, SAID = LINE, 2 * LINE
SAID_WORDS = 3  # for a step; those of even and odd steps lie apart
_ROW = 3 * LINE
PAIR_WORDS = LINE

ABSENT, HERE, LEFT, FAILED = range(4)


@dataclass(frozen=True)
class Layout:
    """How many ranks there are, and the bytes of each of the two buffers of a rank and of an ordered pair of ranks.

    The two buffers of a rank lie side by side. Buffers of 0 bytes are none.
    """

    size: int
    buffer: int = 0
    pair_buffer: int = 0

    def row(self, rank: int) -> int:
        """The first of a rank's words."""
        return LINE + rank * _ROW

    def pair(self, source: int, target: int) -> int:
        """The first of the words that a sender and a receiver share."""
        return self.row(self.size) + (source * self.size + target) * PAIR_WORDS

    def buffer_at(self, rank: int, step: int) -> int:
        """Where a rank's buffer for a step begins, in bytes."""
        return self._buffers_at + (2 * rank + step % 2) * self.buffer

    def pair_buffer_at(self, source: int, target: int, number: int) -> int:
        """Where the buffer for a pair's piece of that number begins, in bytes."""
        return self.buffer_at(self.size, 0) + (2 * (source * self.size + target) + number % 2) * self.pair_buffer

    @property
    def length(self) -> int:
        """All in bytes."""
        return self.pair_buffer_at(self.size, 0, 0)

    @property
    def _buffers_at(self) -> int:
        words = self.pair(self.size, 0)
        return -(-WORD * words // mmap.PAGESIZE) * mmap.PAGESIZE
