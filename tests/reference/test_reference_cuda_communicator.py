"""The communicator of a group on real processes, with the CUDA engine on the host: by which algorithm, all or none."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from sglang_conformance.ranks.pool import Pool

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton: pip install 'sglang-conformance[cuda]'", allow_module_level=True)

from reference.cuda_ranks import ranks


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with ranks() as made:
        yield made


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("meeting"))


def run(pool: Pool, name: str, size: int = 2, **given: Any) -> tuple[Any, ...]:
    report = pool.run(f"reference.cuda_groups:{name}", given, size=size, seconds=60)
    assert not report.failures, report.text()
    return report.values


@pytest.mark.parametrize("size", [2, 3])
def test_tensors_go_by_the_algorithm_of_their_size(pool: Pool, folder: str, size: int) -> None:
    by_size = ["one_shot_push"] * 2 + ["one_shot_pull staged"] * 2 + ["two_shot_pull staged"] * 2
    for launched in run(pool, "in_use", size, folder=folder):
        assert launched == [*by_size, "one_shot_push", "one_shot_push"]


@pytest.mark.parametrize("exports", [True, False])
def test_inputs_of_graphs_are_registered_where_all_ranks_can(pool: Pool, folder: str, exports: bool) -> None:
    inside = "one_shot_pull registered" if exports else "one_shot_push"
    for launched in run(pool, "captured", folder=folder, exports=exports):
        assert launched == ["one_shot_push", inside, "one_shot_push"]


@pytest.mark.parametrize("step", ["device", "identity", "allocate", "export", "open", "reported"])
def test_where_one_rank_fails_none_has_it(pool: Pool, folder: str, step: str) -> None:
    for has, why, held in run(pool, "failing", 3, folder=folder, step=step, how="fails"):
        assert (has, held) == (False, 0)
        assert "OSError: broken here" in why
        assert "rank 2" in why


@pytest.mark.parametrize("step", ["device", "allocate", "open"])
def test_where_one_rank_hangs_none_has_it(pool: Pool, folder: str, step: str) -> None:
    for has, why, _ in run(pool, "failing", 3, folder=folder, step=step, how="hangs"):
        assert not has
        assert "rank 2 of 3 has said nothing" in why or "nothing came of it within 1.5 s" in why


def test_devices_that_no_nvlink_joins_go_without(pool: Pool, folder: str) -> None:
    for why in run(pool, "unlinked", folder=folder, same=False):
        assert "no NVLink joins the devices" in why
    assert run(pool, "unlinked", folder=folder, same=True) == ("", "")


# SGLang's classes. On Hopper two ranks push up to the size of the buffer, and then pull in one shot.


def of_class(pool: Pool, name: str, **given: Any) -> tuple[Any, ...]:
    report = pool.run(f"reference.cuda_classes:{name}", given, size=2, seconds=60)
    assert not report.failures, report.text()
    return report.values


PUBLIC = {
    "capture", "close", "custom_all_reduce", "device", "disabled", "explain", "group", "make_device", "max_pull_size",
    "max_push_size", "max_size", "override_algo", "rank", "should_custom_ar", "why_disabled", "world_size",
}  # fmt: skip
SOME = {
    "0.5.11": {"override_shot"},
    "0.5.13": {"override_shot"},
    "0.5.16": {"uncap_pull_thresholds"},
    "0.5.23": {
        "uncap_pull_thresholds",
        "reserve_push_capacity",
        "supports_push",
        "uses_one_shot_push",
        "uses_two_shot_push",
    },
}


@pytest.mark.parametrize("release", list(SOME))
def test_second_generation(pool: Pool, folder: str, release: str) -> None:
    push, pull, two = "one_shot_push", "one_shot_pull staged", "two_shot_pull staged"
    for found in of_class(pool, "second", folder=folder, release=release):
        assert found["chosen"] == ("_chosen_for_its_group" if release < "0.5.13" else "CustomAllReduceV2")
        assert found["sizes"] == [1 << 15, 1 << 12, 1 << 15]
        assert set(found["methods"]) == PUBLIC | SOME[release]
        assert found["by size"] == [push, push, pull, pull]
        assert [why.split()[0] for why in found["refused"]] == ["32784", "12", "int32"]
        assert found["captured"] == [pull, "one_shot_pull registered"]
        assert found["overridden"] == ([two, two, pull, pull] if release < "0.5.16" else [two, pull])
        if release >= "0.5.23":
            assert "before graphs are captured" in found["too late"]
            assert found["reserved"] == [1 << 12, 17 << 10, 1 << 15, True, False]
            assert found["pushes"] == [[False] * 3, [True, False, True], [True, False, True], [False] * 3]
        assert found["closed"] == [True, False, "it is disabled: it is closed"]
        assert found["held"] == 0


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_first_generation(pool: Pool, folder: str, release: str) -> None:
    for found in of_class(pool, "first", folder=folder, release=release):
        assert found["by size"] == ["one_shot_pull staged"] * 2
        assert [why.split()[0] for why in found["refused"]] == ["65552", "12", "its"]
        assert found["captured"] == ["one_shot_pull registered"]
        assert found["closed"] == [True, None, 1]  # the input of the graph


def test_classes_are_disabled_where_the_group_cannot_have_them(pool: Pool, folder: str) -> None:
    for found in of_class(pool, "without", folder=folder):
        assert found == [[True, False, "the devices or the size of the group do not allow it"]] * 2


@pytest.mark.parametrize("generation", ["first", "second"])
def test_classes_are_disabled_on_all_ranks_where_one_cannot_make_its_memory(
    pool: Pool, folder: str, generation: str
) -> None:
    for disabled, takes, why, held in of_class(pool, "one_fails", folder=folder, generation=generation):
        assert (disabled, takes, held) == (True, False, 0)
        assert "failed on rank 1 of 2: MemoryError: no " in why
