"""The context of sizes and groups, partitions, and objects exchanged over a store."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed


@pytest.fixture
def parallel(install: Any, module: Callable[[str], Any]) -> Any:
    install("0.5.23")
    return module("sglang.srt.runtime_context").get_parallel()


@pytest.fixture
def utils(install: Any, module: Callable[[str], Any]) -> Any:
    install("0.5.23")
    return module("sglang.srt.distributed.utils")


# The context.


def test_what_is_stated_for_a_while_comes_before_what_is_stated_permanently(parallel: Any) -> None:
    parallel.override_permanently(tp_size=4, pp_size=2)
    with parallel.override(tp_size=8):
        with parallel.override(tp_size=2, attn_cp_size=2):
            assert (parallel.tp_size, parallel.attn_cp_size, parallel.pp_size) == (2, 2, 2)
        assert parallel.tp_size == 8
    assert parallel.tp_size == 4
    parallel.clear_stamp()
    with pytest.raises(ValueError, match="tp_size"):
        parallel.tp_size  # noqa: B018


@pytest.mark.parametrize(
    ("name", "error"),
    [("tp_size", ValueError), ("tp_group", RuntimeError), ("attn_tp_size", RuntimeError), ("nothing", AttributeError)],
)
def test_what_is_not_stated_is_an_error(parallel: Any, name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        getattr(parallel, name)


@pytest.mark.parametrize(
    "values",
    [
        {"nothing": 1},
        {"tp_size": 4, "tp_rank": 4},
        {"tp_size": 8, "attn_tp_size": 2, "attn_dp_size": 2, "attn_cp_size": 1},
        {"tp_size": 8, "moe_ep_size": 2, "moe_dp_size": 2, "moe_tp_size": 4},
        {"tp_size": 4, "tp_group": SimpleNamespace(world_size=2)},
        {"tp_rank": 3, "attn_dp_rank": 1, "attn_cp_rank": 0, "attn_tp_rank": 0, "attn_cp_size": 1, "attn_tp_size": 2},
    ],
)
def test_values_that_disagree_are_refused_and_change_nothing(parallel: Any, values: dict[str, Any]) -> None:
    parallel.override_permanently(pp_size=3)
    for state in (parallel.override_permanently, lambda **given: parallel.override(**given).__enter__()):
        with pytest.raises(ValueError):
            state(**values)
        assert (parallel._stamp, parallel._overrides) == ({"pp_size": 3}, {})


def test_values_that_agree_are_taken(parallel: Any) -> None:
    groups = {"tp_group": SimpleNamespace(world_size=8), "moe_dp_group": SimpleNamespace(world_size=2)}
    sizes = {"tp_size": 8, "attn_tp_size": 2, "attn_dp_size": 2, "attn_cp_size": 2, "moe_dp_size": 1}
    ranks = {"tp_rank": 5, "attn_dp_rank": 1, "attn_cp_rank": 0, "attn_tp_rank": 1}
    parallel.override_permanently(**groups, **sizes, **ranks)
    assert parallel.attn_tp_rank == 1


def test_widths_follow_from_the_configured_ones(install: Any, module: Callable[[str], Any]) -> None:
    install("0.5.23")
    widths = module("sglang.srt.runtime_context").derive_parallel_widths(
        tp_size=16, attn_cp_size=2, attn_dp_size=4, moe_ep_size=8, moe_dp_size=1, dcp_size=4, dcp_enabled=True
    )
    assert (widths["attn_tp_size"], widths["moe_tp_size"], widths["attn_dcp_size"]) == (2, 2, 4)


# Partitions.


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [
        (8, 2, [(0, 4), (4, 8)]),
        (7, 3, [(0, 2), (2, 4), (4, 7)]),
        (8, 3, [(0, 2), (2, 5), (5, 8)]),
        (1, 2, [(0, 0), (0, 1)]),
    ],
)
def test_stages_differ_by_one_layer_and_the_later_are_larger(
    utils: Any, layers: int, stages: int, expected: list[tuple[int, int]]
) -> None:
    assert [utils.get_pp_indices(layers, stage, stages) for stage in range(stages)] == expected


def test_user_parts_the_layers(utils: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_PP_LAYER_PARTITION", "5,1,2")
    assert [utils.get_pp_indices(8, stage, 3) for stage in range(3)] == [(0, 5), (5, 6), (6, 8)]
    assert utils.get_pp_indices(8, 0, 1) == (0, 8)
    for layers, stages in ((9, 3), (8, 2)):
        with pytest.raises(ValueError, match="5,1,2"):
            utils.get_pp_indices(layers, 0, stages)
    monkeypatch.setenv("SGLANG_PP_LAYER_PARTITION", "5,x")
    with pytest.raises(ValueError, match="5,x"):
        utils.get_pp_indices(8, 0, 2)


def test_tensor_is_split_along_its_last_dimension(utils: Any) -> None:
    whole = torch.arange(12).reshape(2, 6)
    parts = utils.split_tensor_along_last_dim(whole, 3)
    assert [part.tolist() for part in parts] == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    assert [part.is_contiguous() for part in parts] == [False] * 3
    assert all(
        part.is_contiguous() for part in utils.split_tensor_along_last_dim(whole, 3, contiguous_split_chunks=True)
    )
    with pytest.raises(AssertionError):
        utils.split_tensor_along_last_dim(whole, 4)


def test_group_of_none_is_not_divided(utils: Any) -> None:
    assert utils.get_group_rank_size(None) == (0, 1)
    assert utils.get_group_rank_size(SimpleNamespace(rank_in_group=2, world_size=3)) == (2, 3)


def test_global_store_is_kept(utils: Any) -> None:
    assert utils.get_global_tcp_store() is None
    utils.set_global_tcp_store("store")
    assert utils.get_global_tcp_store() == "store"


# Objects over a store.


def test_objects_are_exchanged_over_a_store(utils: Any) -> None:
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    groups = [utils.StatelessProcessGroup(rank, 3, store) for rank in range(3)]
    for word in ("first", "second"):
        groups[0].send_obj(word, dst=2)
        groups[1].send_obj(f"{word} of 1", dst=2)
    assert [groups[2].recv_obj(src) for src in (0, 1, 0, 1)] == ["first", "first of 1", "second", "second of 1"]
    assert groups[1].broadcast_obj({"id": 1}, src=1) == {"id": 1}
    assert [groups[rank].broadcast_obj(None, src=1) for rank in (0, 2)] == [{"id": 1}] * 2


def test_what_was_sent_is_taken_out_of_the_store_in_time(utils: Any) -> None:
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    group = utils.StatelessProcessGroup(0, 2, store, data_expiration_seconds=-1)
    group.send_obj("old", dst=1)
    before = store.num_keys()
    group.send_obj("new", dst=1)
    assert store.num_keys() == before
    assert len(group.entries) == 1


def test_rank_outside_of_its_group_is_refused(utils: Any) -> None:
    with pytest.raises(AssertionError):
        utils.StatelessProcessGroup(2, 2, None)
