"""Wrong collectives of torch on the simulated device's backend: in groups, of large or odd tensors, with late ranks."""

from __future__ import annotations

from zoo.defects.collectives import _sim
from zoo.workshop import Defect

# A backend that takes the roots and peers that torch gives it, which are places in the group, for ranks of the world.
_AS_OF_THE_WORLD = (
    "ranks = dist.get_process_group_ranks(self)",
    "def place(rank):",
    "    return ranks.index(rank) if rank in ranks else 0",
)


def _call(collective: str) -> str:
    return f"_on_host(self._gloo.{collective}, args, kwargs)"


def _rooted(name: str, collective: str) -> Defect:
    lines = (*_AS_OF_THE_WORLD, "args[-1].rootRank = place(args[-1].rootRank)", f"return {_call(collective)}")
    return _sim(name, "COL-080", collective, *lines, world_size="4")


def _keeping_the_root(name: str, requirement: str, collective: str) -> Defect:
    """A backend that plans a collective once for each shape and type, and has the root in its plan."""
    lines = (
        "plans = self.__dict__.setdefault('plans', {})",
        "kind = (tuple(args[0][0].shape), args[0][0].dtype)",
        "args[1].rootRank = plans.setdefault(kind, args[1].rootRank)",
    )
    return _sim(name, requirement, collective, *lines, f"return {_call(collective)}")


def _after(name: str, requirement: str, collective: str, *lines: str, world_size: str = "2") -> Defect:
    """What happens once the right collective is complete."""
    first = (f"work = {_call(collective)}", "work.wait()")
    # This one's work writes the output whenever it is waited for, and so is not handed on.
    last = "_on_host(self._gloo.barrier, (), {})" if collective == "_reduce_scatter_base" else "work"
    return _sim(name, requirement, collective, *first, *lines, f"return {last}", world_size=world_size)


def _unwaited(name: str, collective: str, asynchronous: str) -> Defect:
    """Work that is said to be complete at once; kept, so that it does complete some time."""
    lines = (
        f"work = {_call(collective)}",
        "class AtOnce(dist.Work):",
        "    def wait(self, timeout=None):",
        "        return True",
        "if not " + asynchronous + ":",
        "    return work",
        "self.kept = [*getattr(self, 'kept', ()), work]",
        "return AtOnce()",
    )
    return _sim(name, "COL-084", collective, *lines)


_IN_GROUPS = (
    _rooted("backend-broadcasts-from-the-worlds-rank", "broadcast"),
    _rooted("backend-reduces-to-the-worlds-rank", "reduce"),
    _rooted("backend-gathers-to-the-worlds-rank", "gather"),
    _rooted("backend-scatters-from-the-worlds-rank", "scatter"),
    _keeping_the_root("backend-broadcasts-from-the-first-root-of-each-kind", "COL-029", "broadcast"),
    _keeping_the_root("backend-reduces-to-the-first-root-of-each-kind", "COL-044", "reduce"),
    _sim(
        "backend-keeps-the-first-splits-of-each-shape",
        "COL-051",
        "alltoall_base",
        "plans = self.__dict__.setdefault('splits', {})",
        "shapes = (tuple(args[0].shape), tuple(args[1].shape), args[0].dtype)",
        "args = (*args[:2], *plans.setdefault(shapes, args[2:4]), *args[4:])",
        f"return {_call('alltoall_base')}",
    ),
    _after(
        "backend-keeps-the-part-of-the-worlds-rank",
        "COL-080",
        "_reduce_scatter_base",
        "whole = args[1].clone()",
        "_on_host(self._gloo.allreduce, ([whole],), {}).wait()",
        "args[0].copy_(whole.chunk(self.size())[dist.get_rank() % self.size()].view(args[0].shape))",
        world_size="4",
    ),
    _after(
        "backend-exchanges-by-the-worlds-rank",
        "COL-080",
        "alltoall_base",
        "if self.size() < dist.get_world_size() and dist.get_rank() >= self.size():",
        "    args[0].copy_(args[0].roll(len(args[0]) // self.size(), 0))",
        world_size="4",
    ),
    _sim(
        "backend-sends-to-the-worlds-rank",
        "COL-080",
        "send",
        *_AS_OF_THE_WORLD,
        "return _on_host(self._gloo.send, (args[0], place(args[1]), *args[2:]), kwargs)",
        world_size="4",
    ),
)

_LARGE = (
    _after(
        "backend-broadcasts-the-first-64-KiB",
        "COL-081",
        "broadcast",
        "if self.rank() != args[1].rootRank:",
        "    args[0][0].view(-1)[65536 // args[0][0].element_size() :].zero_()",
    ),
    _after(
        "backend-exchanges-one-MiB-at-most",
        "COL-081",
        "alltoall_base",
        "args[0].view(-1)[(1 << 20) // args[0].element_size() :].zero_()",
    ),
    _after(
        "backend-loses-the-tail-of-large-messages",
        "COL-081",
        "recv",
        "tensor = args[0][0].view(-1)",
        "if tensor.numel() > 10000:",
        "    tensor[tensor.numel() // 4096 * 4096 :].zero_()",
    ),
    _after(
        "backend-gathers-lists-by-whole-pages",
        "COL-081",
        "allgather",
        "for each in args[0][0]:",
        "    if each.numel() > 10000:",
        "        each.view(-1)[each.numel() // 4096 * 4096 :].zero_()",
    ),
    _after(
        "backend-scatters-sums-by-whole-pages",
        "COL-081",
        "_reduce_scatter_base",
        "count = args[0].numel()",
        "if count > 10000:",
        "    args[0].view(-1)[count // 4096 * 4096 :].zero_()",
    ),
    _sim(
        "backend-sums-many-numbers-in-half-precision",
        "COL-082",
        "allreduce",
        "tensor = args[0][0]",
        "if tensor.dtype is not torch.float32 or tensor.numel() < 4096:",
        f"    return {_call('allreduce')}",
        "halved = tensor.to(torch.float16)",
        "work = _on_host(self._gloo.allreduce, ([halved], *args[1:]), kwargs)",
        "work.wait()",
        "tensor.copy_(halved)",
        "return work",
    ),
    _after(
        "backend-scatters-sums-of-less-precision",
        "COL-082",
        "_reduce_scatter_base",
        "if args[0].dtype is torch.float16 and args[0].numel() > 1000:",
        "    args[0].copy_(args[0].to(torch.bfloat16))",
    ),
)

_LAID_OUT = (
    _sim(
        "backend-gathers-what-lies-between",
        "COL-083",
        "_allgather_base",
        "own = args[1].as_strided(args[1].shape, torch.empty(args[1].shape).stride(), args[1].storage_offset())",
        "return _on_host(self._gloo._allgather_base, (args[0], own, *args[2:]), kwargs)",
    ),
    _sim(
        "backend-receives-into-what-lies-between",
        "COL-083",
        "recv",
        "host = args[0][0]._host if isinstance(args[0][0], SimTensor) else args[0][0]",
        "flat = host.as_strided(host.shape, torch.empty(host.shape).stride(), host.storage_offset())",
        "return self._gloo.recv([flat], *args[1:])",
    ),
    _sim(
        "backend-sends-what-lies-between",
        "COL-083",
        "send",
        "host = args[0][0]._host if isinstance(args[0][0], SimTensor) else args[0][0]",
        "flat = host.as_strided(host.shape, torch.empty(host.shape).stride(), host.storage_offset())",
        "return self._gloo.send([flat], *args[1:])",
    ),
    _after("backend-gathers-and-clears-its-input", "COL-046", "_allgather_base", "args[1].zero_()"),
    _after("backend-scatters-sums-over-its-input", "COL-047", "_reduce_scatter_base", "args[1].zero_()"),
    _after("backend-gathers-to-one-and-clears-its-input", "COL-048", "gather", "args[1][0].zero_()"),
    _after(
        "backend-scatters-past-the-end",
        "COL-049",
        "scatter",
        "own = args[0][0]._host",
        "if own.untyped_storage().nbytes() > (own.storage_offset() + own.numel()) * own.element_size():",
        "    own.as_strided((own.numel() + 1,), (1,), own.storage_offset())[-1] = 0",
    ),
    _after("backend-exchanges-and-clears-its-input", "COL-050", "alltoall_base", "args[1].zero_()"),
)

_LATE = (
    _unwaited("backends-broadcast-is-not-waited-for", "broadcast", "args[1].asyncOp"),
    _unwaited("backends-scattered-sums-are-not-waited-for", "_reduce_scatter_base", "args[2].asyncOp"),
    _unwaited("backends-exchange-is-not-waited-for", "alltoall_base", "args[4].asyncOp"),
    _unwaited("backends-lists-are-not-waited-for", "allgather", "args[2].asyncOp"),
    _unwaited("backends-receipt-is-not-waited-for", "recv", "isinstance(args[0][0], SimTensor)"),
)

_REFUSED = (
    _sim(
        "backend-reduces-by-the-greatest-to-one",
        "COL-085",
        "reduce",
        "if args[1].reduceOp == dist.ReduceOp.MIN:",
        "    args[1].reduceOp = dist.ReduceOp.MAX",
        f"return {_call('reduce')}",
    ),
    _after("backend-doubles-the-sums-of-lists", "COL-085", "reduce_scatter", "args[0][0].mul_(2)"),
    _after(
        "backend-refuses-lists-on-one-rank",
        "COL-052",
        "alltoall",
        "if self.rank() == 1:",
        "    raise RuntimeError('simccl: no lists here')",
    ),
    _after(
        "backend-refuses-products-on-one-rank",
        "COL-043",
        "allreduce",
        "if self.rank() == 1 and args[1].reduceOp == dist.ReduceOp.PRODUCT:",
        "    raise RuntimeError('simccl: no products here')",
    ),
)

DEFECTS = (*_IN_GROUPS, *_LARGE, *_LAID_OUT, *_LATE, *_REFUSED)
