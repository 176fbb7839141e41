"""COL: what torch.distributed gives on the platform's backend, reduced and gathered, as SGLang calls it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from .collecting import calls, drawn
from .collecting.judging import REFUSED, Verdict, offered
from .collecting.parts import MOVE, each_type, rooted
from .declare import on_ranks, requirement
from .member import Member

_OTHER_TYPES = ("float64", "int8", "int16", "uint8")


@requirement("COL-042")
@on_ranks(2, 4)
def test_torch_reduces_what_sglang_sends(member: Member) -> None:
    here = calls.seat(member)
    # By the least, ranks agree on token ids; by the greatest, on aborts.
    sent = {"sum": (*drawn.FLOATS, *drawn.INTEGERS), "min": drawn.INTEGERS, "max": drawn.INTEGERS}
    with Verdict() as verdict:
        for operation, dtypes in sent.items():
            for parts in each_type(member, operation, dtypes, scalars=True):
                calls.demanded(verdict, "all_reduce", here, parts)


@requirement("COL-043")
@on_ranks(2, 4)
def test_torch_reduces_all_else_rightly_or_refuses(member: Member) -> None:
    here, whole_numbers = calls.seat(member), (*drawn.INTEGERS, "uint8")
    offers = {
        "sum": _OTHER_TYPES,
        **dict.fromkeys(("min", "max"), (*drawn.FLOATS, *_OTHER_TYPES)),
        "product": (*drawn.FLOATS, *whole_numbers),
        "avg": drawn.FLOATS,  # of whole numbers it is rounded as the library likes
        **dict.fromkeys(("band", "bor", "bxor"), whole_numbers),
    }
    with Verdict() as verdict:
        for operation, dtypes in offers.items():
            some = dtypes if member.size == 2 else dtypes[::2]  # more ranks are slower, and the types are seen by then
            for parts in each_type(member, operation, some, times=1):
                # A device may have no such type, and refuse the tensor itself.
                done = offered(member, calls.called, "all_reduce", here, parts)
                if done is not REFUSED:
                    done.judge(verdict)


@requirement("COL-044")
@on_ranks(2, 4)
def test_torch_reduces_to_each_root(member: Member) -> None:
    here = calls.seat(member)
    with Verdict() as verdict:
        for parts, root in rooted(each_type(member, "sum", (*drawn.FLOATS, *drawn.INTEGERS))):
            calls.demanded(verdict, "reduce", here, parts, root)


@requirement("COL-045")
@on_ranks(2, 4)
def test_torch_broadcasts_each_type_from_each_root(member: Member) -> None:
    here = calls.seat(member)
    with Verdict() as verdict:
        for parts, root in rooted(each_type(member, MOVE, drawn.MOVED, scalars=True)):
            calls.demanded(verdict, "broadcast", here, parts, root)


@requirement("COL-046")
@on_ranks(2, 3, 4)
def test_torch_gathers_each_type_on_all(member: Member) -> None:
    here = calls.seat(member)
    with Verdict() as verdict:
        for parts in each_type(member, MOVE, drawn.MOVED, times=1):
            for name in ("all_gather", "all_gather_into_tensor"):
                calls.demanded(verdict, name, here, parts)


@requirement("COL-047")
@on_ranks(2, 4)
def test_torch_scatters_sums(member: Member) -> None:
    here = calls.seat(member)
    with Verdict() as verdict:
        for parts in each_type(member, "sum", drawn.FLOATS):
            calls.demanded(verdict, "reduce_scatter_tensor", here, parts)


@requirement("COL-048")
@on_ranks(2, 4)
def test_torch_gathers_to_each_root(member: Member) -> None:
    here = calls.seat(member)
    with Verdict() as verdict:
        for parts, root in rooted(each_type(member, MOVE, drawn.MOVED, times=1)):
            calls.demanded(verdict, "gather", here, parts, root)


@requirement("COL-049")
@on_ranks(2, 4)
def test_torch_scatters_from_each_root(member: Member) -> None:
    here = calls.seat(member)
    with Verdict() as verdict:
        for parts, root in rooted(each_type(member, MOVE, drawn.MOVED, times=1)):
            calls.demanded(verdict, "scatter", here, parts, root)


@requirement("COL-050")
@on_ranks(2, 4)
def test_torch_exchanges_equal_parts(member: Member) -> None:
    here = calls.seat(member)
    with Verdict() as verdict:
        for parts in each_type(member, MOVE, drawn.MOVED, times=1):
            calls.demanded(verdict, "all_to_all_single", here, parts)


@requirement("COL-085")
@on_ranks(2, 4)
def test_torch_reduces_to_one_and_scatters_otherwise_rightly_or_refuses(member: Member) -> None:
    here = calls.seat(member)
    offers = (
        ("reduce", "min", ("float32", "int64")),
        ("reduce", "max", ("float32", "int64")),
        ("reduce_scatter_tensor", "max", ("bfloat16", "int64")),
        ("reduce_scatter", "sum", drawn.FLOATS),
        ("reduce_scatter", "max", ("float32", "int64")),
    )
    with Verdict() as verdict:
        for number, (name, operation, dtypes) in enumerate(offers):
            for parts in each_type(member, operation, dtypes, times=1):
                done = offered(member, calls.called, name, here, parts, number % member.size)
                if done is not REFUSED:
                    done.judge(verdict)
