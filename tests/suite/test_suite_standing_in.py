"""torch.distributed as a rank without others meets it: what it answers there, and that all is as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from sglang_conformance.suite.grouping.standing_in import Stage, swapped


@pytest.fixture
def asked() -> Iterator[list[list[int]]]:
    """Rank 5 of 8 is played; the ranks of each group that torch is asked for."""
    noted: list[list[int]] = []
    with Stage(5, 8, "gloo", noted.append).played():
        yield noted


def test_rank_is_one_of_a_world(asked: list[list[int]]) -> None:
    assert dist.is_initialized()
    assert (dist.get_rank(), dist.get_world_size(), dist.get_backend()) == (5, 8, "gloo")
    assert dist.distributed_c10d.get_world_size() == 8
    assert asked == []


def test_groups_count_their_own_ranks(asked: list[list[int]]) -> None:
    group = dist.new_group([1, 5, 7])
    assert (dist.get_rank(group), dist.get_world_size(group)) == (1, 3)
    assert dist.get_process_group_ranks(group) == [1, 5, 7]
    assert (dist.get_global_rank(group, 2), dist.get_group_rank(group, 7)) == (7, 2)
    assert dist.get_rank(dist.new_group([0, 1])) == -1
    assert dist.get_world_size(dist.new_group()) == 8
    assert asked == [[1, 5, 7], [0, 1], list(range(8))]


@pytest.mark.usefixtures("asked")
def test_all_ranks_give_what_this_one_gives() -> None:
    group = dist.new_group([1, 5, 7])
    tensor = torch.tensor([2.0, 3.0])
    work = dist.all_reduce(tensor, group=group, async_op=True)
    assert work.wait()
    assert tensor.tolist() == [6.0, 9.0]
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=group)
    assert tensor.tolist() == [6.0, 9.0]
    whole = torch.zeros(6)
    dist.all_gather_into_tensor(whole, tensor, group=group)
    assert whole.tolist() == [6.0, 9.0] * 3
    things = [None, None, None]
    dist.all_gather_object(things, "mine", group=group)
    assert things == ["mine"] * 3


def test_torch_is_as_before_afterwards() -> None:
    before = dict(vars(dist))
    with Stage(0, 2, "gloo", lambda ranks: None).played():
        assert dist.new_group is not before["new_group"]
    assert dict(vars(dist)) == before
    assert not dist.is_initialized()


def test_what_a_class_inherits_is_inherited_again() -> None:
    class Base:
        name = "base"

    class Derived(Base):
        own = 1

    with swapped(Derived, {"name": "other", "own": 2}):
        assert (Derived.name, Derived.own) == ("other", 2)
    assert (Derived.name, Derived.own) == ("base", 1)
    assert "name" not in vars(Derived)
