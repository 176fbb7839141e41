"""What the checks of custom all-reduce are built of: forms, edges, and what is left of a process."""

from __future__ import annotations

import mmap
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sglang_conformance.suite import expect
from sglang_conformance.suite.collecting.judging import Verdict
from sglang_conformance.suite.member import Member
from sglang_conformance.suite.reducing import calls, engines, forms, left, making, sizes, spies


def member() -> Any:
    """A rank alone, on the host."""
    return SimpleNamespace(
        device=torch.device("cpu"), number=0, size=1, side=SimpleNamespace(to_all=lambda told: [told])
    )


class Engine:
    """Sums of one rank; accepts so many bytes between."""

    disabled = False

    def __init__(self, least: int = 16, most: int = 1000 * 16) -> None:
        self.least, self.most = least, most

    def should_custom_ar(self, tensor: torch.Tensor) -> bool:
        return self.least <= tensor.numel() * tensor.element_size() <= self.most

    def custom_all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()


@pytest.mark.parametrize("form", [*forms.DENSE, *forms.SPARSE, *forms.OVERLAPPING], ids=lambda f: f.words)
def test_forms_are_torchs(form: forms.Form) -> None:
    storage = np.arange(form.storage, dtype=np.float64)
    assert np.array_equal(form.of(storage), form.laid(torch.from_numpy(storage)).numpy())


def test_forms_are_what_they_are_called() -> None:
    for form in forms.DENSE:
        assert len(np.unique(form.of(np.arange(form.storage)))) == np.prod(form.shape)
    for form in forms.OVERLAPPING:
        assert len(np.unique(form.of(np.arange(form.storage)))) < np.prod(form.shape)


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    lanes=st.integers(1, 24),
    order=st.permutations(range(3)),
    offset=st.integers(0, 9),
    behind=st.integers(0, 9),
    gap=st.integers(0, 8),
)
def test_drawn_forms_show_each_element_once(
    shape: list[int], lanes: int, order: list[int], offset: int, behind: int, gap: int
) -> None:
    form = forms.drawn(shape, lanes, order, offset, behind, gap)
    shown = form.of(np.arange(form.storage))
    assert shown.shape == (*shape[:-1], shape[-1] * lanes)
    assert len(np.unique(shown)) == shown.size
    assert shown.min() >= offset
    assert shown.max() < form.storage - behind


def test_drawn_forms_may_be_contiguous() -> None:
    assert forms.drawn([2, 3], 4, [0, 1, 2], 0, 0, 0) == forms.contiguous(2, 12)


def test_sums_of_many_elements_are_those_of_few_again_and_again() -> None:
    few, many = (forms.flat("float32", 3, count, 4) for count in (16_381, 40_000))
    assert np.array_equal(many.reduced()[:16_381], few.reduced())
    assert np.array_equal(many.reduced(), sum(many.all()))


@pytest.mark.parametrize(("least", "most"), [(16, 1 << 10), (16, 1040), (48, 8 << 20), (16, (1 << 20) - 16)])
def test_edges_are_found_to_the_byte(least: int, most: int) -> None:
    found = sizes.edges(member(), Engine(least, most), "bfloat16")
    assert [edge.last for edge in found if edge.accepted] == [most]
    assert [edge.last for edge in found if not edge.accepted] == ([least - 16] if least > 16 else [])


def test_what_accepts_all_has_no_edge() -> None:
    assert sizes.edges(member(), Engine(0, 1 << 40), "float32") == []


def test_sizes_go_through_powers_of_two() -> None:
    assert sizes.through(16, 70) == [16, 32, 48, 64]


def test_served_needs_an_engine_that_accepts_something(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = member()
    alone.coordinator = SimpleNamespace(ca_comm=Engine(0, 8))
    with pytest.raises(expect.Declined, match="accepts no tensor"):
        sizes.served(alone)
    alone.coordinator.ca_comm = Engine(16, 64)
    assert sizes.served(alone) == {"bfloat16": 8, "float16": 8, "float32": 4}


def test_a_right_sum_is_not_blamed_and_a_wrong_one_is() -> None:
    brought = forms.Brought("bfloat16", 1, forms.DENSE[5])
    with Verdict() as verdict:
        calls.reduced(member(), verdict, Engine(), brought)
    tensor, _ = calls.given(member(), brought)
    with pytest.raises(expect.Violation, match="saw"), Verdict() as verdict:
        calls.judge(verdict, tensor + 1, brought, "a sum")
    with pytest.raises(expect.Violation, match="None"), Verdict() as verdict:
        calls.judge(verdict, None, brought, "a sum")


def test_ranks_that_say_different_things_are_told() -> None:
    two: Member = SimpleNamespace(side=SimpleNamespace(to_all=lambda told: [told, [not each for each in told]]))  # type: ignore[assignment]
    with pytest.raises(expect.Violation, match="rank 0: True, rank 1: False"):
        calls.alike(two, Engine(), [(torch.ones(16), "float32 [16]")])


def test_reading_is_seen() -> None:
    tensor = torch.ones(8)
    assert spies.read_while(lambda: tensor.stride()) == []
    assert spies.read_while(lambda: bool(tensor.isnan().any())) == ["_local_scalar_dense"]


def test_an_engine_that_cannot_be_disabled_is_told() -> None:
    class Stubborn(Engine):
        disabled = property(lambda self: False)

    with pytest.raises(expect.Violation, match="to be set"), engines.disabled(Stubborn()):
        pass


def test_what_lacks_is_lacking_for_a_while() -> None:
    with making.no_descriptors(), pytest.raises(OSError):
        os.dup(0)
    descriptor = os.memfd_create("room")
    with making.no_room(), pytest.raises(OSError):
        os.ftruncate(descriptor, mmap.PAGESIZE)
    os.close(descriptor)
    with making.no_tensor_from(2):
        torch.zeros(1)
        with pytest.raises(RuntimeError, match="refused"):
            torch.empty(1)
        torch.empty(1)
    os.close(os.dup(0))


def test_files_of_shared_memory_are_those_with_a_name() -> None:
    name = f"/dev/shm/held-{os.getpid()}"
    before = left.files_held()
    with open(name, "w+b") as file:
        os.remove(name)
        assert left.files_held() == before
    with open(name, "w+b") as file:
        file.truncate(mmap.PAGESIZE)
        memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
    try:
        assert left.files_held() - before == {name}
    finally:
        memory.close()
        os.remove(name)
    assert left.files_held() == before
