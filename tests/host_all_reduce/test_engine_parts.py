"""How the engine parts tensors, and what it knows of memory that all ranks see."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_host_all_reduce import DTYPES
from sglang_host_all_reduce.calls import Call, told, what
from sglang_host_all_reduce.regions import Regions
from sglang_host_all_reduce.shares import ALIGNED, share_bytes, tiles
from sglang_host_memory import Layout, Segment, join


@settings(deadline=None)
@given(st.integers(1, 100_000), st.sampled_from([64, 4096, 16_384]), st.integers(1, 8), st.sampled_from([1, 2, 4, 8]))
def test_every_element_is_in_one_share(count: int, most: int, size: int, width: int) -> None:
    made = tiles(count, most // width, size, width)
    bounds = [(tile.first + share.begin, tile.first + share.end) for tile in made for share in tile.shares]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == count
    assert all(one[1] == other[0] for one, other in itertools.pairwise(bounds))
    for tile in made:
        assert tile.length * width <= most
        assert tile.first * width % ALIGNED == 0
        assert len(tile.shares) == size
        for begin, end in tile.shares:
            assert begin * width % ALIGNED == 0 or begin == tile.length
            assert (end - begin) * width <= share_bytes(most, size)


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = join(f"test-{uuid.uuid4()}", 0, Layout(1), 5.0)
    yield made
    made.close()


def region(regions: Regions, segment: Segment, length: int) -> torch.Tensor:
    def say(beside: int) -> None:
        segment.begin()
        assert segment.agree(1, 2, beside) is None

    return torch.from_numpy(np.frombuffer(regions.make(length, say, say), dtype=np.uint8))


def test_memory_is_claimed_while_it_is_there(segment: Segment) -> None:
    regions = Regions(segment)
    first, second = (region(regions, segment, length) for length in (5000, 3 << 20))
    assert (len(first), len(second)) == (5000, 3 << 20)
    address = second.data_ptr()
    claims = [regions.claim(address + offset, 100) for offset in (0, 64)]
    assert 0 not in claims
    assert regions.addresses([claims[0]]) == [address]
    assert regions.addresses([claims[1]]) == [address + 64]
    assert regions.addresses([regions.claim(first.data_ptr(), 5000)]) == [first.data_ptr()]
    assert regions.claim(address + (3 << 20) - 10, 1 << 22) == 0
    assert regions.claim(address - 1, 1) == 0
    assert regions.claim(torch.empty(1000).data_ptr(), 4000) == 0
    del second
    assert regions.claim(address, 100) == 0  # something else may lie there now
    assert regions.addresses([regions.claim(first.data_ptr(), 5000)]) == [first.data_ptr()]


def test_claims_of_several_ranks_belong_together_only_in_one_region(segment: Segment) -> None:
    regions = Regions(segment)
    first, second = (region(regions, segment, 5000) for _ in range(2))
    one, other = (regions.claim(each.data_ptr(), 100) for each in (first, second))
    assert regions.addresses([one, one]) is not None
    assert regions.addresses([one, other]) is None
    assert regions.addresses([one, 0]) is None
    assert regions.addresses([0, 0]) is None


def test_calls_are_told_apart() -> None:
    said = {(what(call, dtype), told(what(call, dtype), 3)) for call in Call for dtype in DTYPES}
    assert len(said) == len({number for number, _ in said}) == len({text for _, text in said}) == 3 * len(DTYPES)
    assert what(Call.ALL_REDUCE, torch.float32, (1, 2)) != what(Call.ALL_REDUCE, torch.float32, (2, 1))
