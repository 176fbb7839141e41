"""CAR: which tensors a group's custom all-reduce accepts, and that all are reduced right, accepted or refused.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from functools import partial
from typing import Any

from . import expect
from .collecting import drawn, tensors
from .collecting.judging import REFUSED, Verdict, attempt, tried
from .declare import on_ranks, requirement
from .member import Member
from .reducing import calls, engines, forms, sizes, spies

_TYPES = (*drawn.FLOATS, "float64", *drawn.INTEGERS, "int16", "int8", "uint8", "float8_e4m3fn", "float8_e5m2")
_UNKNOWN = ("complex64", "bool")
_SMALL = 40  # bytes: some multiples of what is read at once, and all between
_ASKED = (16, 24, 256, 264, 4096, 1 << 16, 1 << 20)
_LARGEST = 1 << 25  # bytes that are brought to a sum


@requirement("CAR-014")
@on_ranks(2, 4)
def test_it_accepts_what_models_are_served_in(member: Member) -> str:
    engines.group_s(member)
    try:
        found = sizes.served(member)
    except expect.Declined as none:
        expect.fail(expected="some tensor that all ranks accept", seen=str(none), call="should_custom_ar")
    return f"it accepts {', '.join(found)}"


@requirement("CAR-015")
@on_ranks(2, 4)
def test_all_ranks_answer_alike(member: Member) -> None:
    found, asked = engines.group_s(member), []
    keep = _kept(member)
    for dtype in _TYPES:
        for length in _ASKED:
            brought = forms.flat(dtype, member.size, length // calls.ITEM[dtype])
            asked.append((_empty(member, dtype, brought.form), brought.words()))
    for form in (*forms.DENSE, *forms.SPARSE):
        asked.append((_empty(member, "bfloat16", form), f"bfloat16 {list(form.shape)}, {form.words}"))
    calls.alike(member, found, asked)
    del keep


@requirement("CAR-016")
@on_ranks(2, 4)
def test_answer_depends_on_the_tensor_alone(member: Member) -> None:
    found, served = engines.group_s(member), sizes.served(member)
    with Verdict() as verdict:
        for dtype, count in served.items():
            kept, wanted = list[Any](), dict[int, bool]()
            for number in range(24):
                kept.append(_empty(member, dtype, forms.contiguous(1 + number * 5)))  # so that addresses move
                for sought in (count, 2 * count, count - 1):
                    kept.append(_empty(member, dtype, forms.contiguous(sought)))
                    words = f"{dtype} [{sought}]"
                    answer = engines.accepts(found, kept[-1], words)
                    call = f"{engines.OWNER}.should_custom_ar({words}), in other memory, after others were reduced"
                    verdict.equal(answer, wanted.setdefault(sought, answer), call=call)
                if number % 8 == 0:
                    calls.reduced(member, verdict, found, forms.flat(dtype, member.size, count, number))


@requirement("CAR-017")
@on_ranks(2, 4)
def test_one_rank_may_ask_alone(member: Member) -> None:
    found, served = engines.group_s(member), sizes.served(member)
    with Verdict() as verdict:
        for rank in range(member.size):
            for dtype, count in served.items():
                brought = forms.flat(dtype, member.size, count, rank)
                tensor, storage = calls.given(member, brought)
                for _ in range(3 if rank == member.number else 0):
                    engines.accepts(found, tensor, brought.words())
                call = f"{engines.OWNER}.should_custom_ar({brought.words()}): the tensor afterwards"
                verdict.holds(storage, brought.storage(member.number), dtype, call)
            member.side.meet()  # until then the others have called nothing
            for dtype, count in served.items():
                after = f", after rank {rank} alone has asked"
                calls.reduced(member, verdict, found, forms.flat(dtype, member.size, count, 9), after=after)


@requirement("CAR-018")
@on_ranks(2)
def test_asking_reads_nothing_from_the_device(member: Member) -> None:
    found = engines.group_s(member)
    for dtype in drawn.FLOATS:
        for form in (forms.contiguous(128), *forms.DENSE[-4:], *forms.SPARSE):
            tensor = _empty(member, dtype, form)
            seen = spies.read_while(partial(engines.accepts, found, tensor))
            call = f"the reading operations in {engines.OWNER}.should_custom_ar({dtype} {list(form.shape)})"
            expect.equal(seen, [], call=call, where=engines.where(found, "should_custom_ar"))


@requirement("CAR-019")
@on_ranks(2, 4)
def test_small_sizes_are_reduced_right_or_refused(member: Member) -> None:
    found = engines.group_s(member)
    lengths = [*range(1, _SMALL), 47, 48, 49, 63, 64, 65, 127, 128, 129, 255, 257]
    wished = [
        forms.flat(dtype, member.size, length // calls.ITEM[dtype], length)
        for dtype in ("bfloat16", "float32", "uint8")
        for length in lengths
        if length % calls.ITEM[dtype] == 0
    ]
    _right_where_accepted(member, found, wished, failing=True)


@requirement("CAR-020")
@on_ranks(2, 4)
def test_fewer_packs_than_ranks(member: Member) -> None:
    found = engines.group_s(member)
    lengths = [16 * packs for packs in range(1, 2 * member.size + 2)]
    wished = [
        forms.flat(dtype, member.size, length // calls.ITEM[dtype], salt)
        for dtype in drawn.FLOATS
        for salt, length in enumerate(lengths)
    ]
    _right_where_accepted(member, found, wished)


@requirement("CAR-021")
@on_ranks(2, 4)
def test_each_type_is_reduced_right_or_refused(member: Member) -> None:
    found = engines.group_s(member)
    _right_where_accepted(member, found, _of_each_type(member), failing=True)
    _unknown_types(member, found)


@requirement("CAR-061")
@on_ranks(2, 4)
def test_it_accepts_no_type_that_it_cannot_sum(member: Member) -> None:
    _right_where_accepted(member, engines.group_s(member), _of_each_type(member))


@requirement("CAR-022")
@on_ranks(2, 4)
def test_each_form_is_reduced_right_or_refused(member: Member) -> None:
    found = engines.group_s(member)
    wished = [
        forms.Brought(dtype, member.size, form, number)
        for dtype in ("bfloat16", "float32")
        for number, form in enumerate((*forms.DENSE, *forms.SPARSE))
    ]
    _right_where_accepted(member, found, wished)


@requirement("CAR-023")
@on_ranks(2)
def test_elements_that_share_memory_are_reduced_right_or_refused(member: Member) -> None:
    found = engines.group_s(member)
    wished = [
        forms.Brought(dtype, member.size, form, number)
        for dtype in ("bfloat16", "float32")
        for number, form in enumerate(forms.OVERLAPPING)
    ]
    _right_where_accepted(member, found, wished)


@requirement("CAR-024")
@on_ranks(2, 4)
def test_sizes_at_each_edge_are_reduced_right(member: Member) -> str:
    found, said = engines.group_s(member), []
    with Verdict() as verdict:
        for dtype in ("bfloat16", "float32"):
            there = sizes.edges(member, found, dtype)
            same = member.side.to_all([each.last for each in there])
            call = f"the sizes in bytes at which the answer of {engines.OWNER}.should_custom_ar changes, for {dtype}"
            expect.that(same.count(same[0]) == len(same), expected="alike on all ranks", seen=f"{same}", call=call)
            lengths = [edge.last for edge in there if edge.accepted]
            if dtype == "bfloat16":  # in which all is looked at; in others, the edges alone
                lengths += sizes.through(16, min([1 << 19, *lengths]))
                lengths += [length for edge in there for length in edge.about]
            for length in sorted({length for length in lengths if length <= _LARGEST}):
                brought = forms.flat(dtype, member.size, length // calls.ITEM[dtype], length % 61)
                if sizes.asked(member, found, dtype, length):
                    calls.reduced(member, verdict, found, brought)
            said.append(f"{dtype} up to {max((e.last for e in there if e.accepted), default=0)} bytes")
    return f"it accepts {', '.join(said)}"


@requirement("CAR-025")
@on_ranks(2, 4)
def test_what_it_refuses_is_reduced_by_another_engine(member: Member) -> None:
    found, group, refused = engines.group_s(member), member.coordinator, 0
    with Verdict() as verdict:
        beyond = [edge.last + 16 for edge in sizes.edges(member, found, "bfloat16") if edge.accepted]
        for dtype in (*drawn.FLOATS, *drawn.INTEGERS):
            item, large = calls.ITEM[dtype], beyond if dtype == "bfloat16" else ()
            for length in (item, 3 * item, 16 + item, 1000 * 16 + item, *(each for each in large if each <= _LARGEST)):
                brought = forms.flat(dtype, member.size, length // item, length % 53)
                tensor, _ = calls.given(member, brought)
                refused += not engines.accepts(found, tensor, brought.words())
                call = f"GroupCoordinator.all_reduce of {brought.words()}"
                calls.judge(verdict, attempt(call, group.all_reduce, tensor), brought, call)
    if not refused:
        raise expect.Declined("it refuses none of these")


@requirement("CAR-026")
@on_ranks(2, 4)
def test_what_it_refuses_it_does_not_reduce_wrongly(member: Member) -> None:
    found = engines.group_s(member)
    with Verdict() as verdict:
        for number, form in enumerate((forms.contiguous(3), forms.contiguous(129), *forms.SPARSE)):
            brought = forms.Brought("bfloat16", member.size, form, number)
            if calls.accepted(member, found, brought):
                continue
            tensor, storage = calls.given(member, brought)
            call = f"{calls.spelt(brought)}, which it refuses"
            got = tried(found.custom_all_reduce, tensor)
            if got is not None:
                calls.judge(verdict, got, brought, call)
            verdict.holds(storage, brought.storage(member.number), "bfloat16", f"{call}: its input afterwards")


@requirement("CAR-027")
@on_ranks(2, 4)
def test_tensors_without_elements(member: Member) -> None:
    found = engines.group_s(member)
    with Verdict() as verdict:
        for dtype in drawn.FLOATS:
            for shape in ((0,), (0, 7), (5, 0)):
                tensor = tensors.poisoned(shape, dtype, member.device)
                if calls.alike(member, found, [(tensor, f"{dtype} {list(shape)}")])[0]:
                    call = f"{engines.OWNER}.custom_all_reduce of {dtype} {list(shape)}"
                    got = attempt(call, found.custom_all_reduce, tensor)
                    verdict.holds(got, tensors.numbers(tensor), dtype, call)
        for dtype, count in sizes.served(member).items():
            calls.reduced(member, verdict, found, forms.flat(dtype, member.size, count), after=", after empty ones")


def _of_each_type(member: Member) -> list[forms.Brought]:
    return [
        forms.flat(dtype, member.size, length // calls.ITEM[dtype], length)
        for dtype in _TYPES
        for length in (64, 512, 1040)
    ]


def _right_where_accepted(member: Member, found: Any, wished: list[forms.Brought], *, failing: bool = False) -> None:
    """Of those that all ranks accept, judge the sums; ``failing``: of types that no model is served in, an error is a
    refusal too.
    """
    given = [calls.given(member, brought)[0] for brought in wished]
    answers = calls.alike(member, found, [(t, b.words()) for t, b in zip(given, wished, strict=True)])
    with Verdict() as verdict:
        for brought, tensor, answer in zip(wished, given, answers, strict=True):
            if answer:
                call = calls.spelt(brought)
                may_fail = failing and brought.dtype not in drawn.FLOATS
                got = (tried if may_fail else partial(attempt, call))(found.custom_all_reduce, tensor)
                calls.judge(verdict, got, brought, call)


def _unknown_types(member: Member, found: Any) -> None:
    """Of types that no sum is known of here, judge those that it accepts by whole numbers."""
    import torch

    with Verdict() as verdict:
        for dtype in _UNKNOWN:
            given = torch.full((64,), member.number % 2, dtype=getattr(torch, dtype)).to(member.device)
            if calls.alike(member, found, [(given, f"{dtype} [64]")])[0]:
                call = f"{engines.OWNER}.custom_all_reduce of {dtype} [64]"
                got = tried(found.custom_all_reduce, given)
                if got is REFUSED:
                    continue
                kind = getattr(torch, dtype)
                wanted = torch.full((64,), member.size // 2, dtype=kind)
                right = isinstance(got, torch.Tensor) and torch.equal(got.cpu(), wanted)
                verdict.that(right, expected=f"{member.size // 2} throughout", seen=expect.show(got), call=call)


def _kept(member: Member) -> list[Any]:
    """Tensors of as many sizes as the rank's number tells, so that each rank's further ones lie elsewhere."""
    return [_empty(member, "uint8", forms.contiguous(1 + 48 * number)) for number in range(7 * member.number)]


def _empty(member: Member, dtype: str, form: forms.Form) -> Any:
    import torch

    storage = torch.empty(form.storage, dtype=getattr(torch, dtype), device=member.device)
    return form.laid(storage)
