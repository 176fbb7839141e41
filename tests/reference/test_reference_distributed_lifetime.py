"""Groups of the reference from first to last: set-up, layouts, timeouts, scopes, hooks, leaving nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reference.group_ranks import ranks
from sglang_conformance.ranks.pool import Pool

RELEASES = ["0.5.11", "0.5.23"]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with ranks() as made:
        yield made


@pytest.fixture
def run(pool: Pool, tmp_path: Any) -> Any:
    def ran(check: str, *, size: int = 2, seconds: float = 60.0, **arguments: Any) -> tuple[Any, ...]:
        given = {"folder": str(tmp_path), **arguments}
        return pool.run(f"reference.group_lifetimes:{check}", given, size=size, seconds=seconds).values

    return ran


@pytest.mark.parametrize("release", RELEASES)
def test_groups_of_four_ranks_on_two_stages(run: Any, release: str) -> None:
    found = run("layout", size=4, release=release, sizes={"tp_size": 2, "pp_size": 2})
    assert [one["ranks"]["tp"] for one in found] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert [one["ranks"]["pp"] for one in found] == [[0, 2], [1, 3], [0, 2], [1, 3]]
    assert [one["ranks"]["moe_ep"] for one in found] == [[0], [1], [2], [3]]
    assert [one["places"]["pp"] for one in found] == [0, 0, 1, 1]
    assert {(one["names"]["attn_tp"], one["names"]["moe_tp"]) for one in found} == {("tp", "tp")}


@pytest.mark.parametrize("release", RELEASES)
def test_groups_within_tensor_parallelism(run: Any, release: str) -> None:
    sizes = {"tp_size": 4, "attn_cp_size": 2, "moe_ep_size": 2}
    found = run("layout", size=4, release=release, sizes=sizes)
    assert [one["ranks"]["attn_cp"] for one in found] == [[0, 2], [1, 3], [0, 2], [1, 3]]
    assert [one["ranks"]["attn_tp"] for one in found] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert [one["ranks"]["moe_ep"] for one in found] == [[0, 2], [1, 3], [0, 2], [1, 3]]
    assert [one["ranks"]["moe_tp"] for one in found] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    # More context than MoE's data: its ranks share tokens before the experts, in the very same group.
    assert {one["names"]["moe_dp"] for one in found} == {"attn_cp"}
    assert {one["names"]["attn_tp"] for one in found} == {"attention_tp"}


@pytest.mark.parametrize("release", RELEASES)
def test_timeout_reaches_every_groups_device_side_and_gloo_keeps_two_hours(run: Any, release: str) -> None:
    for found in run("timeouts", release=release, timeout=77):
        assert found == {"device": [77.0] * 4, "cpu": [7200.0] * 4}


def test_without_a_timeout_groups_have_torchs_own(run: Any) -> None:
    for found in run("timeouts", release="0.5.23", timeout=None):
        assert found == {"device": [1800.0] * 4, "cpu": [7200.0] * 4}


@pytest.mark.parametrize(("release", "count"), [("0.5.11", 5), ("0.5.23", 50)])
def test_cycles_leave_nothing_behind(run: Any, release: str, count: int) -> None:
    for before, after in run("cycles", release=release, count=count):
        assert after == before
        assert (after["process groups"], after["registry"]) == (0, 0)


@pytest.mark.parametrize(("release", "missing"), [("0.5.11", "AssertionError"), ("0.5.23", "RuntimeError")])
def test_what_cannot_be_is_refused(run: Any, release: str, missing: str) -> None:
    for found in run("refusals", release=release):
        assert found.pop("decode context", "RuntimeError") == "RuntimeError"
        assert found == {
            "get_tp_group": missing,
            "uninitialized": "AssertionError",
            "timeout 0": "AssertionError",
            "timeout 1.5": "AssertionError",
            "no method": "AssertionError",
            "wrong world": "RuntimeError",
            "again": "AssertionError",
            "foreign ranks": "ValueError",
            "patched": "AssertionError",
            "destroyed": "ValueError",
            "unknown": "AssertionError",
        }


@pytest.mark.parametrize("release", RELEASES)
def test_another_group_stands_for_tensor_parallelism_for_a_while(run: Any, release: str) -> None:
    assert run("patched", release=release) == ([[2, 0, 2], [1, 0, 1], [2, 0, 2]], [[2, 1, 2], [1, 0, 1], [2, 1, 2]])


def test_local_rank_is_given_or_the_rank_or_the_environments(run: Any) -> None:
    assert run("local_ranks") == ([5, 0, 6], [5, 1, 6])


@pytest.mark.parametrize("release", RELEASES)
def test_hooks_meet_set_up_accessors_collectives_and_the_end(run: Any, release: str) -> None:
    set_up = ["init_world_group", "GroupCoordinator.__init__"]
    for met in run("hooked", release=release):
        assert met[:2] == set_up
        assert met[2:4] == ["init_model_parallel_group", "GroupCoordinator.__init__"]
        used = met[met.index("get_tp_group") :]
        assert used == [
            *("get_tp_group", "GroupCoordinator.all_reduce"),
            *("get_tp_group", "inplace_all_reduce"),
            *("get_tp_group", "GroupCoordinator.destroy"),
        ]


def test_groups_work_on_the_device_that_an_out_of_tree_platform_names(run: Any) -> None:
    for number, found in enumerate(run("simulated", release="0.5.23")):
        assert found["device"] == f"sim:{number}"
        assert found["all_gather"]["values"] == [1, 1, 2, 2]
        assert found["all_gatherv"]["values"] == [1, 1, 2, 2]
        assert found["broadcast_tensor_dict"]["values"] == [1, 1]
        assert found["all_reduce"]["values"] == [3, 3]
        assert found["same"]
        assert found["engine"] == "torch.distributed"


def test_groups_of_an_out_of_tree_platform_work_on_the_cpu_before_0_5_23(run: Any) -> None:
    assert {found["device"] for found in run("simulated", release="0.5.11")} == {"cpu"}


def test_decode_context_and_shared_experts_are_runs_within_tensor_parallelism(run: Any) -> None:
    assert run("decode_context", size=4) == (
        [[0, 1], [0, 1], [0], 2, 0],
        [[0, 1], [0, 1], [1], 2, 1],
        [[2, 3], [2, 3], [2], 2, 0],
        [[2, 3], [2, 3], [3], 2, 1],
    )


@pytest.mark.parametrize("release", RELEASES)
def test_duplicate_for_prefill_stands_for_tensor_parallelism_for_a_while(run: Any, release: str) -> None:
    for before, inside, after in run("duplicate", release=release):
        assert (before, inside, after) == (before, "pdmux_prefill_tp:0", before)
        assert before.startswith("tp:")


@pytest.mark.parametrize("release", RELEASES)
def test_graph_is_captured_over_every_group_that_may_reduce_in_it(run: Any, release: str) -> None:
    for found in run("captured", size=4, release=release):
        assert found["stream"]
        assert found["inside"] == {"tp": True, "pp": True, "moe_ep": True, "moe_tp": True, "moe_dp": False}
        assert not any(found["after"].values())


@pytest.mark.parametrize("release", RELEASES)
def test_stages_send_tensors_in_parts_where_they_can_be_parted(run: Any, release: str) -> None:
    first, second, *received = run("staged", size=4, release=release)
    assert (first, second) == (None, None)
    for number, found in enumerate(received):
        assert found["even"] == {"shape": [3, 2], "values": [[0, 1], [2, 3], [4, 5]], "dtype": "float32"}
        assert found["odd"] == {"shape": [3], "values": [0, 1, 2], "dtype": "int64"}
        assert found["n"] == number


def test_objects_reach_all_who_share_a_batch_of_attention(run: Any) -> None:
    assert run("shared_objects", size=4) == ([{"request": 7}, "x"],) * 4
