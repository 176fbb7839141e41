"""The all-reduce kernels, in Triton: what each rank's device does in one operation.

All four are launched by every rank with the same sizes and the same number of blocks. Block b of a rank works on the
same elements as block b of every other, and waits for no other block, so all blocks of one launch must fit the device
at once. Sums go by rank, from the first to the last, on whichever rank they are made: all get the same bits.

What the ranks share lies behind a table of addresses, one row a use and one column a rank (``layout.Row``). Of these
the first, the *board*, begins with words of eight bytes: the number of this rank's last operation, once for each block,
and whether it has failed; then, for each of two meetings, a line for each block with a word for each rank. To *meet*,
a block writes the operation's number into its own rank's word on every board (release) and looks at its own board until
all words are as high (acquire). The numbers only grow and are kept by the device, so a launch that a graph repeats
finds the next one.

Everything else is there twice, for operations of even and odd numbers. Who has met the others in operation t knows
that they have ended t - 1, since a device does the operations in order: so what t - 1 has read may be overwritten in
t + 1. Inputs that are read where they lie, without a copy, are not there twice; then all meet once more at the end.

Set ``TRITON_INTERPRET=1`` before this module is imported to run the kernels on the CPU's memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .layout import LINE_WORDS, Row

_LINE = tl.constexpr(LINE_WORDS)
_PUSH = tl.constexpr(Row.PUSH)
_STAGE = tl.constexpr(Row.STAGE)
_RESULT = tl.constexpr(Row.RESULT)


@triton.jit
def _words(address):
    return address.to(tl.pointer_type(tl.int64))


@triton.jit
def _at(address, like):
    """The elements at an address of 16 bytes' alignment."""
    return tl.multiple_of(address.to(like.dtype), 16)


@triton.jit
def _wide(x, WIDE: tl.constexpr):
    """Elements of 16 bits as float32, in which they are summed."""
    return x.to(tl.float32) if WIDE else x


@triton.jit
def _begin(table, rank, WORLD: tl.constexpr, LANES: tl.constexpr, BLOCKS: tl.constexpr):
    """Where all boards are, and of this rank's own: where it is, the operation's number, whether an earlier failed."""
    lanes = tl.arange(0, LANES)
    boards = tl.load(table + lanes, mask=lanes < WORLD, other=0)
    board = _words(tl.load(table + rank))
    return boards, board, tl.load(board + tl.program_id(0)) + 1, tl.load(board + BLOCKS)


@triton.jit
def _end(board, number, BLOCKS: tl.constexpr, SPAN: tl.constexpr):
    """Note the number, also for the blocks that this launch does not have."""
    block = tl.program_id(0)
    others = tl.arange(0, SPAN)
    absent = (others >= tl.num_programs(0) + block * SPAN) & (others < BLOCKS)  # the first block alone does that
    tl.store(board + others, tl.zeros([SPAN], tl.int64) + number, mask=(others == block) | absent)


@triton.jit
def _meet(
    boards,
    board,
    number,
    failed,
    rank,
    limit,
    status,
    MEETING: tl.constexpr,
    WORLD: tl.constexpr,
    LANES: tl.constexpr,
    BLOCKS: tl.constexpr,
    HEAD: tl.constexpr,
):
    """Wait for this block of every rank, but look no more than ``limit`` times, or once after a failure.

    Where one has not come, that is noted on the board and for the host: 1 + its rank, and the operation's number.
    """
    lanes = tl.arange(0, LANES)
    present = lanes < WORLD
    line = HEAD + (MEETING * BLOCKS + tl.program_id(0)) * _LINE
    theirs = _words(boards) + line + rank
    tl.debug_barrier()  # all threads have done what they tell by this
    tl.atomic_xchg(theirs, tl.zeros([LANES], tl.int64) + number, mask=present, sem="release", scope="sys")
    late = WORLD
    looks = tl.where(failed == 0, limit, 1)
    while (late > 0) & (looks > 0):
        seen = tl.atomic_add(
            board + line + lanes, tl.zeros([LANES], tl.int64), mask=present, sem="acquire", scope="sys"
        )
        late = tl.max(tl.where(present & (seen < number), lanes + 1, 0))
        looks -= 1
    if (late > 0) & (failed == 0):
        tl.store(board + BLOCKS, number)
        tl.store(_words(status) + 1, number)
        tl.store(_words(status), late.to(tl.int64))
    tl.debug_barrier()  # and no thread goes on before all have come


@triton.jit(do_not_specialize=["packs", "slot", "rank", "limit", "status"])
def one_shot_push(
    table,
    source,
    target,
    packs,
    slot,
    rank,
    limit,
    status,
    WORLD: tl.constexpr,
    LANES: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCKS: tl.constexpr,
    SPAN: tl.constexpr,
    HEAD: tl.constexpr,
):
    """Write the whole input to every rank; then sum what has come."""
    boards, board, number, failed = _begin(table, rank, WORLD, LANES, BLOCKS)
    slots = table + (_PUSH + (number % 2)) * WORLD
    count = packs * PACK
    inner = tl.arange(0, TILE)
    for tile in range(tl.program_id(0), tl.cdiv(count, TILE), tl.num_programs(0)):
        at = tile * TILE + inner
        x = tl.load(source + at, mask=at < count)
        for turn in tl.static_range(WORLD):
            peer = (rank + turn) % WORLD  # each begins with another one
            tl.store(_at(tl.load(slots + peer) + rank * slot, source) + at, x, mask=at < count)
    own = tl.load(slots + rank)
    _meet(boards, board, number, failed, rank, limit, status, 0, WORLD, LANES, BLOCKS, HEAD)
    for tile in range(tl.program_id(0), tl.cdiv(count, TILE), tl.num_programs(0)):
        at = tile * TILE + inner
        total = _wide(tl.load(_at(own, source) + at, mask=at < count), WIDE)
        for peer in tl.static_range(1, WORLD):
            total += _wide(tl.load(_at(own + peer * slot, source) + at, mask=at < count), WIDE)
        tl.store(target + at, total.to(target.dtype.element_ty), mask=at < count)
    _end(board, number, BLOCKS, SPAN)


@triton.jit(do_not_specialize=["packs", "slot", "rank", "limit", "status"])
def one_shot_pull(
    table,
    inputs,
    source,
    target,
    packs,
    slot,
    rank,
    limit,
    status,
    STAGED: tl.constexpr,
    WORLD: tl.constexpr,
    LANES: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCKS: tl.constexpr,
    SPAN: tl.constexpr,
    HEAD: tl.constexpr,
):
    """Read every rank's input and sum it.

    ``STAGED``: inputs are first copied to where the others can read them; else ``inputs`` holds their addresses.
    """
    boards, board, number, failed = _begin(table, rank, WORLD, LANES, BLOCKS)
    staged = table + (_STAGE + (number % 2)) * WORLD
    count = packs * PACK
    inner = tl.arange(0, TILE)
    if STAGED:
        own = _at(tl.load(staged + rank), source)
        for tile in range(tl.program_id(0), tl.cdiv(count, TILE), tl.num_programs(0)):
            at = tile * TILE + inner
            tl.store(own + at, tl.load(source + at, mask=at < count), mask=at < count)
    where = staged if STAGED else inputs
    _meet(boards, board, number, failed, rank, limit, status, 0, WORLD, LANES, BLOCKS, HEAD)
    for tile in range(tl.program_id(0), tl.cdiv(count, TILE), tl.num_programs(0)):
        at = tile * TILE + inner
        total = _wide(tl.load(_at(tl.load(where), source) + at, mask=at < count), WIDE)
        for peer in tl.static_range(1, WORLD):
            total += _wide(tl.load(_at(tl.load(where + peer), source) + at, mask=at < count), WIDE)
        tl.store(target + at, total.to(target.dtype.element_ty), mask=at < count)
    if not STAGED:
        _meet(boards, board, number, failed, rank, limit, status, 1, WORLD, LANES, BLOCKS, HEAD)
    _end(board, number, BLOCKS, SPAN)


@triton.jit(do_not_specialize=["packs", "slot", "rank", "limit", "status"])
def two_shot_pull(
    table,
    inputs,
    source,
    target,
    packs,
    slot,
    rank,
    limit,
    status,
    STAGED: tl.constexpr,
    WORLD: tl.constexpr,
    LANES: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCKS: tl.constexpr,
    SPAN: tl.constexpr,
    HEAD: tl.constexpr,
):
    """Read every rank's input for this rank's chunk and sum it; then read every rank's sum."""
    boards, board, number, failed = _begin(table, rank, WORLD, LANES, BLOCKS)
    staged = table + (_STAGE + (number % 2)) * WORLD
    sums = table + (_RESULT + (number % 2)) * WORLD
    count = packs * PACK
    chunk = tl.cdiv(packs, WORLD) * PACK
    inner = tl.arange(0, TILE)
    if STAGED:
        own = _at(tl.load(staged + rank), source)
        for tile in range(tl.program_id(0), tl.cdiv(chunk, TILE), tl.num_programs(0)):
            at = tile * TILE + inner
            for peer in tl.static_range(WORLD):
                inside = (at < chunk) & (at < count - peer * chunk)
                x = tl.load(source + peer * chunk + at, mask=inside)
                tl.store(own + peer * chunk + at, x, mask=inside)
    where = staged if STAGED else inputs
    first = rank * chunk
    mine = _at(tl.load(sums + rank), source)
    _meet(boards, board, number, failed, rank, limit, status, 0, WORLD, LANES, BLOCKS, HEAD)
    for tile in range(tl.program_id(0), tl.cdiv(chunk, TILE), tl.num_programs(0)):
        at = tile * TILE + inner
        inside = (at < chunk) & (at < count - first)
        total = _wide(tl.load(_at(tl.load(where), source) + first + at, mask=inside), WIDE)
        for peer in tl.static_range(1, WORLD):
            total += _wide(tl.load(_at(tl.load(where + peer), source) + first + at, mask=inside), WIDE)
        tl.store(mine + at, total.to(target.dtype.element_ty), mask=inside)
    _meet(boards, board, number, failed, rank, limit, status, 1, WORLD, LANES, BLOCKS, HEAD)
    for tile in range(tl.program_id(0), tl.cdiv(chunk, TILE), tl.num_programs(0)):
        at = tile * TILE + inner
        for peer in tl.static_range(WORLD):
            inside = (at < chunk) & (at < count - peer * chunk)
            x = tl.load(_at(tl.load(sums + peer), source) + at, mask=inside)
            tl.store(target + peer * chunk + at, x, mask=inside)
    _end(board, number, BLOCKS, SPAN)


@triton.jit(do_not_specialize=["packs", "slot", "rank", "limit", "status"])
def two_shot_push(
    table,
    source,
    target,
    packs,
    slot,
    rank,
    limit,
    status,
    WORLD: tl.constexpr,
    LANES: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCKS: tl.constexpr,
    SPAN: tl.constexpr,
    HEAD: tl.constexpr,
):
    """Write to every rank its chunk; sum what has come, write that to every rank's second half of the slot."""
    boards, board, number, failed = _begin(table, rank, WORLD, LANES, BLOCKS)
    slots = table + (_PUSH + (number % 2)) * WORLD
    count = packs * PACK
    chunk = tl.cdiv(packs, WORLD) * PACK
    half = slot // 32 * 16
    inner = tl.arange(0, TILE)
    for tile in range(tl.program_id(0), tl.cdiv(chunk, TILE), tl.num_programs(0)):
        at = tile * TILE + inner
        for turn in tl.static_range(WORLD):
            peer = (rank + turn) % WORLD
            inside = (at < chunk) & (at < count - peer * chunk)
            x = tl.load(source + peer * chunk + at, mask=inside)
            tl.store(_at(tl.load(slots + peer) + rank * slot, source) + at, x, mask=inside)
    own = tl.load(slots + rank)
    _meet(boards, board, number, failed, rank, limit, status, 0, WORLD, LANES, BLOCKS, HEAD)
    for tile in range(tl.program_id(0), tl.cdiv(chunk, TILE), tl.num_programs(0)):
        at = tile * TILE + inner
        inside = (at < chunk) & (at < count - rank * chunk)
        total = _wide(tl.load(_at(own, source) + at, mask=inside), WIDE)
        for peer in tl.static_range(1, WORLD):
            total += _wide(tl.load(_at(own + peer * slot, source) + at, mask=inside), WIDE)
        x = total.to(target.dtype.element_ty)
        for turn in tl.static_range(WORLD):
            peer = (rank + turn) % WORLD
            tl.store(_at(tl.load(slots + peer) + rank * slot + half, source) + at, x, mask=inside)
    _meet(boards, board, number, failed, rank, limit, status, 1, WORLD, LANES, BLOCKS, HEAD)
    for tile in range(tl.program_id(0), tl.cdiv(chunk, TILE), tl.num_programs(0)):
        at = tile * TILE + inner
        for peer in tl.static_range(WORLD):
            inside = (at < chunk) & (at < count - peer * chunk)
            x = tl.load(_at(own + peer * slot + half, source) + at, mask=inside)
            tl.store(target + peer * chunk + at, x, mask=inside)
    _end(board, number, BLOCKS, SPAN)
