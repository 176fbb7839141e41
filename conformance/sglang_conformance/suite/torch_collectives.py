"""COL: what torch.distributed gives on the platform's backend, reduced and gathered, as SGLang calls it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from .collecting import distributed, drawn, tensors
from .collecting.judging import REFUSED, Verdict, attempt, tried
from .collecting.parts import MOVE, each_type
from .declare import on_ranks, requirement
from .member import Member

_OTHER_TYPES = ("float64", "int8", "int16", "uint8")


@requirement("COL-042")
@on_ranks(2, 4)
def test_torch_reduces_what_sglang_sends(member: Member) -> None:
    import torch.distributed as dist

    with Verdict() as verdict:
        for operation in ("sum", "min", "max"):
            for parts in each_type(member, operation, (*drawn.FLOATS, *drawn.INTEGERS), scalars=True):
                call = f"torch.distributed.all_reduce of {parts.words()}, {operation}"
                tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
                attempt(call, dist.all_reduce, tensor, distributed.operation(operation), group=member.group)
                verdict.reduced(tensor, parts, call)


@requirement("COL-043")
@on_ranks(2, 4)
def test_torch_reduces_all_else_rightly_or_refuses(member: Member) -> None:
    import torch.distributed as dist

    whole_numbers = (*drawn.INTEGERS, "uint8")
    tried_types = {
        **dict.fromkeys(("sum", "min", "max"), _OTHER_TYPES),
        "product": (*drawn.FLOATS, *whole_numbers),
        "avg": drawn.FLOATS,  # of whole numbers it is rounded as the library likes
        **dict.fromkeys(("band", "bor", "bxor"), whole_numbers),
    }
    with Verdict() as verdict:
        for operation, dtypes in tried_types.items():
            for parts in each_type(member, operation, dtypes, times=1):
                # A device may have no such type, and refuse the tensor itself.
                tensor = tried(tensors.made, parts.of(member.number), parts.dtype, member.device)
                if tensor is REFUSED:
                    continue
                got = tried(dist.all_reduce, tensor, distributed.operation(operation), group=member.group)
                if got is not REFUSED:
                    verdict.reduced(tensor, parts, f"torch.distributed.all_reduce of {parts.words()}, {operation}")


@requirement("COL-044")
@on_ranks(2, 4)
def test_torch_reduces_to_each_root(member: Member) -> None:
    import torch.distributed as dist

    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, "sum", (*drawn.FLOATS, *drawn.INTEGERS))):
            root = number % member.size
            call = f"torch.distributed.reduce of {parts.words()}, dst={root}"
            tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
            attempt(call, dist.reduce, tensor, root, group=member.group)
            if member.number == root:
                verdict.reduced(tensor, parts, call)


@requirement("COL-045")
@on_ranks(2, 4)
def test_torch_broadcasts_each_type_from_each_root(member: Member) -> None:
    import torch.distributed as dist

    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, drawn.MOVED, scalars=True)):
            root = number % member.size
            call = f"torch.distributed.broadcast of {parts.words()}, src={root}"
            tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
            attempt(call, dist.broadcast, tensor, root, group=member.group)
            verdict.moved(tensor, parts, root, call)


@requirement("COL-046")
@on_ranks(2, 3, 4)
def test_torch_gathers_each_type_on_all(member: Member) -> None:
    import torch.distributed as dist

    with Verdict() as verdict:
        for parts in each_type(member, MOVE, drawn.MOVED, times=1):
            own = tensors.made(parts.of(member.number), parts.dtype, member.device)
            call = f"torch.distributed.all_gather of {parts.words()}"
            rooms = [tensors.poisoned(parts.shape, parts.dtype, member.device) for _ in range(member.size)]
            attempt(call, dist.all_gather, rooms, own, group=member.group)
            for rank, room in enumerate(rooms):
                verdict.moved(room, parts, rank, f"{call}: element {rank}")
            call = f"torch.distributed.all_gather_into_tensor of {parts.words()}"
            whole = tensors.poisoned(parts.for_each().shape, parts.dtype, member.device)
            attempt(call, distributed.all_gather_single, whole, own, group=member.group)
            verdict.gathered(whole, parts, call)


@requirement("COL-047")
@on_ranks(2, 4)
def test_torch_scatters_reductions(member: Member) -> None:
    import torch.distributed as dist

    with Verdict() as verdict:
        for operation in ("sum", "max"):
            for parts in each_type(member, operation, drawn.FLOATS):
                whole = parts.for_each()
                own = tensors.made(whole.of(member.number), parts.dtype, member.device)
                parted = [each.contiguous() for each in own.chunk(member.size)]
                for name, function, given in (
                    ("reduce_scatter_tensor", distributed.reduce_scatter_single, own),
                    ("reduce_scatter", dist.reduce_scatter, parted),
                ):
                    call = f"torch.distributed.{name} of {whole.words()}, {operation}"
                    room = tensors.poisoned(parts.shape, parts.dtype, member.device)
                    attempt(call, function, room, given, op=distributed.operation(operation), group=member.group)
                    verdict.scattered(room, whole, member.number, call)


@requirement("COL-048")
@on_ranks(2, 4)
def test_torch_gathers_to_each_root(member: Member) -> None:
    import torch.distributed as dist

    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, drawn.MOVED, times=1)):
            root, rooms = number % member.size, None
            own = tensors.made(parts.of(member.number), parts.dtype, member.device)
            call = f"torch.distributed.gather of {parts.words()}, dst={root}"
            if member.number == root:
                rooms = [tensors.poisoned(parts.shape, parts.dtype, member.device) for _ in range(member.size)]
            attempt(call, dist.gather, own, rooms, dst=root, group=member.group)
            for rank, room in enumerate(rooms or ()):
                verdict.moved(room, parts, rank, f"{call}: element {rank}")


@requirement("COL-049")
@on_ranks(2, 4)
def test_torch_scatters_from_each_root(member: Member) -> None:
    import torch.distributed as dist

    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, drawn.MOVED, times=1)):
            root, given = number % member.size, None
            call = f"torch.distributed.scatter of {parts.words()}, src={root}"
            if member.number == root:
                given = [tensors.made(part, parts.dtype, member.device) for part in parts.all()]
            room = tensors.poisoned(parts.shape, parts.dtype, member.device)
            attempt(call, dist.scatter, room, given, src=root, group=member.group)
            verdict.moved(room, parts, member.number, call)
