"""What every method of a PyNCCL of the reference gives, by value: checks that tests name, for ranks of pynccl_ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from host_nccl.host_ranks import OPERATIONS
from reference.pynccl_ranks import equal, joint, moving, reducible, room, share, wanted
from sglang_conformance.ranks.rank import Rank

_SIZES = (2, 0, 3, 1)
_REDUCTIONS = ("SUM", "PRODUCT", "MAX", "MIN", "AVG")  # in torch, in the order of OPERATIONS


def reductions(rank: Rank, dtype: str, rows: int, operations: Sequence[str] = OPERATIONS) -> None:
    """All that reduce, in place and not, even and uneven."""
    comm, size, own = rank.state.comm, rank.size, rank.number
    sizes = [rows * n for n in _SIZES[:size]]
    with comm.change_state(enable=True):
        for salt, operation in enumerate(operations):
            op = getattr(dist.ReduceOp, _REDUCTIONS[OPERATIONS.index(operation)])
            parts = [reducible(r, rows, dtype, salt) for r in range(size)]
            result = wanted(parts, operation, dtype)
            given = parts[own].clone()
            assert comm.all_reduce(given, op=op) is None
            equal(given, result, dtype)

            given, out = parts[own].clone(), room(rows, dtype)
            equal(comm.outplace_all_reduce(given, op=op), result, dtype)
            assert comm.outplace_all_reduce(given, out, op) is out
            equal(out, result, dtype)
            assert given.equal(parts[own])

            parts = [reducible(r, rows * size, dtype, salt) for r in range(size)]
            given, out = parts[own].clone(), room(rows, dtype)
            assert comm.reduce_scatter(out, given, op=op) is None
            equal(out, share(wanted(parts, operation, dtype), [rows] * size, own), dtype)
            assert given.equal(parts[own])

            parts = [reducible(r, sum(sizes), dtype, salt) for r in range(size)]
            given, out = parts[own].clone(), room(sizes[own], dtype)
            assert comm.reduce_scatter(out, given, op=op, sizes=sizes) is None
            equal(out, share(wanted(parts, operation, dtype), sizes, own), dtype)
            assert given.equal(parts[own])


def movements(rank: Rank, dtype: str, rows: int) -> None:
    """All that only move numbers."""
    comm, size, own = rank.state.comm, rank.size, rank.number
    sizes = [rows * n for n in _SIZES[:size]]
    parts = [moving(r, rows, dtype) for r in range(size)]
    with comm.change_state(enable=True):
        given, out = parts[own].clone(), room(rows * size, dtype)
        assert comm.all_gather(out, given) is None
        equal(out, joint(parts), dtype)
        assert given.equal(parts[own])

        uneven = [moving(r, n, dtype, 1) for r, n in enumerate(sizes)]
        given, out = uneven[own].clone(), room(sum(sizes), dtype)
        assert comm.all_gather(out, given, sizes=sizes) is None
        equal(out, joint(uneven), dtype)
        assert given.equal(uneven[own])

        for root in range(size):
            given = parts[own].clone()
            assert comm.broadcast(given, src=root) is None
            equal(given, joint([parts[root]]), dtype)

        whole = [moving(r, rows * size, dtype, 2) for r in range(size)]
        given, out = whole[own].clone(), room(rows * size, dtype)
        assert comm.all_to_all_single(out, given) is None
        equal(out, joint([share(one, [rows] * size, own) for one in whole]), dtype)
        assert given.equal(whole[own])

        out = room(rows, dtype)
        turns: list[Callable[[], Any]] = [
            lambda: comm.send(parts[own], dst=(own + 1) % size),
            lambda: comm.recv(out, src=(own - 1) % size),
        ]
        for turn in turns if own % 2 == 0 else turns[::-1]:
            assert turn() is None
        equal(out, joint([parts[own - 1]]), dtype)


def grouped(rank: Rank) -> None:
    """What is between a start and an end is done at the end, and all of it at once."""
    comm, size, own = rank.state.comm, rank.size, rank.number
    after, before = (own + 1) % size, (own - 1) % size
    mine, theirs, total = moving(own, 4, "float32"), room(4, "float32"), moving(own, 2, "int64")
    with comm.change_state(enable=True):
        comm.group_start()
        comm.recv(theirs, src=before)  # each rank receives first: one by one, these would wait for ever
        comm.send(mine, dst=after)
        comm.all_reduce(total)
        unchanged = theirs.equal(room(4, "float32")), total.equal(moving(own, 2, "int64"))
        comm.group_end()
    assert unchanged == (True, True)
    equal(theirs, joint([moving(before, 4, "float32")]), "float32")
    assert total.equal(torch.stack([moving(r, 2, "int64") for r in range(size)]).sum(0))


def of_any_shape(rank: Rank, shape: Sequence[int]) -> None:
    """Tensors of no element, of no dimension and of several."""
    comm, size, own = rank.state.comm, rank.size, rank.number
    given = torch.full(tuple(shape), own + 1.0)
    stacked = torch.full((size * shape[0], *shape[1:]), -1.0) if shape else torch.full((size,), -1.0)
    with comm.change_state(enable=True):
        comm.all_gather(stacked, given)
        comm.all_reduce(given)
        out = comm.outplace_all_reduce(given)
        comm.broadcast(out, src=size - 1)
    total = size * (size + 1) / 2
    assert given.equal(torch.full(tuple(shape), total))
    assert out.equal(torch.full(tuple(shape), total * size))
    for number, part in enumerate(stacked.reshape(size, *shape)):
        assert part.equal(torch.full(tuple(shape), number + 1.0))


def in_any_order(rank: Rank) -> None:
    """Tensors without gaps, whose elements lie in another order than that of their indices, are reduced rightly."""
    comm, size = rank.state.comm, rank.size
    base = [moving(r, 8, "float32").reshape(2, 3, 4) for r in range(size)]
    total = torch.stack(base).sum(0)
    views: dict[str, Callable[[Any], Any]] = {
        "transposed": lambda t: t.transpose(0, 2),
        "permuted": lambda t: t.permute(1, 2, 0),
        "with a dimension of one": lambda t: t.transpose(0, 1).unsqueeze(1),
    }
    with comm.change_state(enable=True):
        for name, view in views.items():
            given = view(base[rank.number].clone())
            assert not given.is_contiguous(), name
            out = comm.outplace_all_reduce(given)
            assert (out.stride(), out.equal(view(total))) == (given.stride(), True), name
            assert given.equal(view(base[rank.number])), name
            comm.all_reduce(given)
            assert given.equal(view(total)), name
