"""The decision for custom all-reduce: the generation of a group, its limits, and the tensors that it takes."""

from __future__ import annotations

import json
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference.custom_worlds import changed, joined
from sglang_conformance.oracles import all_reduce as oracle
from sglang_conformance.suite.reducing import worlds as worlds_of_the_kit
from sglang_reference._custom_all_reduce import generations, limits, tensors, topology
from sglang_reference._custom_all_reduce.generations import FIRST, NONE, SECOND, Verdict, choose
from sglang_reference._custom_all_reduce.limits import Limits
from sglang_reference._custom_all_reduce.tensors import Layout, layout_of
from sglang_reference._custom_all_reduce.topology import Settings, Topology
from sglang_reference._releases import numbers, within

RELEASES = [f"0.5.{n}" for n in range(11, 24)]
NEWEST = RELEASES[-1]
KIB, MIB = 1 << 10, 1 << 20


def generation(world: Topology, release: str = NEWEST) -> str:
    return choose(world, release).generation


def limits_of(world: Topology, release: str = NEWEST) -> Limits:
    found = limits.limits(choose(world, release), world, release)
    assert found is not None
    return found


# Releases.


def test_releases_are_compared_by_their_numbers() -> None:
    assert numbers("0.5.22") < numbers("0.5.22.post1") < numbers("0.5.23")
    assert within("0.5.11", "0.5.9")
    assert within("0.5.11")
    assert not within("0.5.11", "0.5.12")
    assert not within("0.5.12", "0.5.11", "0.5.12")
    assert within("0.5.12.post1", "0.5.12", "0.5.13")
    assert not within("0.5.12", "0.5.12.post1")
    assert within("0.5.12", gone="0.5.12.post1")
    with pytest.raises(ValueError, match="three numbers"):
        within("0.5.12", "0.5")


# The history, case by case.


@pytest.mark.parametrize("release", RELEASES)
def test_without_links_two_ranks_have_the_first_generation_and_more_have_none(release: str) -> None:
    """It was once taken unasked, and then everything was disabled."""
    two = choose(joined(2, lanes=0), release)
    assert two.generation == FIRST
    assert [passed.generation for passed in two.passed_over] == [SECOND]
    if release != "0.5.11":
        assert two.passed_over[0].why == "no lane of NVLink or XGMI joins ranks 0 and 1"
    four = choose(joined(4, lanes=0), release)
    assert four.generation == NONE
    assert [passed.generation for passed in four.passed_over] == [SECOND, FIRST]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("size", [2, 4, 6, 8])
def test_with_links_the_second_generation_is_taken_and_without_its_switch_the_first(release: str, size: int) -> None:
    assert generation(joined(size), release) == SECOND
    assert generation(joined(size, settings=Settings(second=False)), release) == FIRST
    assert generation(joined(size, settings=Settings(enabled=False)), release) == NONE


@pytest.mark.parametrize("size", range(1, 17))
@pytest.mark.parametrize(
    ("release", "capability", "second"),
    [
        ("0.5.11", (9, 0), range(2, 9)),
        ("0.5.16", (8, 0), range(2, 9)),
        ("0.5.17", (10, 0), [*range(2, 9), 16]),
        ("0.5.17", (8, 0), range(2, 17)),
        ("0.5.18", (9, 0), range(2, 9)),
        ("0.5.23", (9, 0), range(2, 9)),
        ("0.5.23", (10, 3), [*range(2, 9), 16]),
        ("0.5.23", (10, 7), [*range(2, 9), 16]),
        ("0.5.23", (12, 0), range(2, 17)),
    ],
)
def test_sizes_are_served_by_release_and_architecture(
    size: int, release: str, capability: tuple[int, int], second: list[int]
) -> None:
    expected = SECOND if size in second else NONE  # of the first generation's sizes the second lacks none
    assert generation(joined(size, capability=capability), release) == expected
    first = FIRST if size in (2, 4, 6, 8) else NONE
    assert generation(joined(size, capability=capability, settings=Settings(second=False)), release) == first


@pytest.mark.parametrize("kind", ["rocm", "musa"])
def test_other_devices_have_the_first_generation(kind: str) -> None:
    assert generation(joined(4, kind=kind)) == FIRST
    assert generation(joined(4, kind=kind, lanes=0)) == NONE
    assert generation(joined(2, kind=kind, lanes=0)) == (FIRST if kind == "musa" else NONE)


def test_on_rocm_access_is_not_asked_and_deterministic_kernels_need_no_links_between_two() -> None:
    assert generation(joined(4, kind="rocm", apart=[(0, 1)])) == FIRST
    assert generation(joined(2, kind="rocm", lanes=0, settings=Settings(deterministic=True))) == FIRST


def test_unknown_kinds_and_mixed_ones_have_none() -> None:
    assert generation(joined(2, kind="other")) == NONE
    mixed = choose(changed(joined(2), 1, device={"kind": "rocm"}), NEWEST)
    assert mixed.generation == NONE
    assert "cuda and rocm" in mixed.reason


def test_one_missing_pair_counts() -> None:
    verdict = choose(joined(8, unlinked=[(3, 6)]), NEWEST)
    assert verdict.generation == NONE
    assert all("ranks 3 and 6" in passed.why for passed in verdict.passed_over)


def test_lane_that_is_down_does_not_count_while_another_is_up() -> None:
    world = joined(4)
    one_down = changed(world, 1, views=tuple(topology.View(17) for _ in range(4)))
    assert generation(one_down) == SECOND


def test_link_that_only_one_end_sees_is_none() -> None:
    blind = changed(joined(2), 1, views=(topology.View(0), topology.View(0)))
    assert generation(blind) == FIRST


@pytest.mark.parametrize("size", [2, 4])
def test_pair_without_access_has_neither(size: int) -> None:
    verdict = choose(joined(size, apart=[(0, 1)]), NEWEST)
    assert verdict.generation == NONE
    assert verdict.passed_over[1].why == "no access to each other's memory for ranks 0 and 1"


@pytest.mark.parametrize("release", RELEASES)
def test_across_machines_only_a_fabric_and_only_from_0_5_17_on(release: str) -> None:
    fabric = joined(4, nodes=2, clique="a", vmm=True)
    assert generation(fabric, release) == (SECOND if within(release, "0.5.17") else NONE)
    assert generation(joined(4, nodes=2, clique="a"), release) == NONE
    assert generation(joined(4, nodes=2, vmm=True), release) == NONE
    assert generation(changed(fabric, 2, device={"clique": "b"}), release) == NONE
    assert generation(changed(fabric, 2, device={"vmm": False}), release) == NONE


@pytest.mark.parametrize("release", RELEASES)
def test_unasked_across_machines_was_a_switch_of_two_releases(release: str) -> None:
    told = Settings(unasked_across_nodes=True)
    has = release in ("0.5.17", "0.5.18")
    assert generation(joined(8, nodes=2, settings=told), release) == (SECOND if has else NONE)
    assert generation(joined(16, nodes=2, settings=told, capability=(8, 0)), release) == NONE


def test_architectures_that_differ_have_the_first_generation() -> None:
    verdict = choose(changed(joined(2), 1, device={"capability": (10, 0)}), NEWEST)
    assert verdict.generation == FIRST
    assert "several architectures" in verdict.passed_over[0].why


@pytest.mark.parametrize(
    ("settings", "expected"), [({"second": False}, FIRST), ({"enabled": False}, NONE)], ids=["second", "all"]
)
def test_one_rank_that_is_told_otherwise_tells_all(settings: dict[str, bool], expected: str) -> None:
    verdict = choose(changed(joined(4), 2, settings=settings), NEWEST)
    assert verdict.generation == expected
    assert "on rank 2 of 4" in verdict.reason


def test_rank_of_which_nothing_is_known_leaves_none_and_is_named() -> None:
    verdict = choose(changed(joined(4), 3, missing="its probe hung"), NEWEST)
    assert verdict.generation == NONE
    assert "rank 3: its probe hung" in verdict.reason


def test_memory_that_cannot_be_shared_leaves_none() -> None:
    assert generation(changed(joined(2), 0, device={"ipc": False})) == NONE


# Steps down.


def worlds(seed: int) -> Topology:
    rng = random.Random(seed)
    size = rng.randint(1, 16)
    pairs = [(a, b) for a in range(size) for b in range(a + 1, size)]
    return joined(
        size,
        lanes=rng.choice([0, 4, 18]),
        nodes=rng.choice([1, 1, 2]),
        unlinked=rng.sample(pairs, min(len(pairs), rng.choice([0, 0, 1, 3]))),
        apart=rng.sample(pairs, min(len(pairs), rng.choice([0, 0, 0, 1]))),
        settings=Settings(rng.random() < 0.9, rng.random() < 0.8, rng.random() < 0.2, rng.random() < 0.2),
        kind=rng.choice(["cuda", "cuda", "cuda", "rocm", "musa", "other"]),
        capability=rng.choice([(8, 0), (9, 0), (10, 0), (10, 7), (12, 0)]),
        clique=rng.choice(["", "a"]),
        vmm=rng.random() < 0.5,
    )


@given(seed=st.integers(0, 10**6), release=st.sampled_from(RELEASES))
def test_each_step_down_goes_to_the_next_best(seed: int, release: str) -> None:
    world = worlds(seed)
    verdict = choose(world, release)
    fit = [rung.generation for rung in verdict.rungs if not rung.against]
    taken = []
    while verdict.generation != NONE:
        taken.append(verdict.generation)
        assert verdict.reason
        verdict = verdict.without(verdict.generation, "it could not be made")
    assert taken == fit
    assert [passed.generation for passed in verdict.passed_over] == [SECOND, FIRST]
    assert all(passed.why for passed in verdict.passed_over)


@given(seed=st.integers(0, 10**6), release=st.sampled_from(RELEASES))
def test_only_a_group_that_has_an_engine_has_limits(seed: int, release: str) -> None:
    world = worlds(seed)
    verdict = choose(world, release)
    found = limits.limits(verdict, world, release)
    assert (found is None) == (verdict.generation == NONE)
    if found is not None:
        assert found.algorithm(16)
        assert all(found.algorithm(found.most(graph=graph), graph=graph) for graph in (False, True))
        assert not any(found.algorithm(found.most(graph=graph) + 16, graph=graph) for graph in (False, True))


def test_reasons_are_sentences_of_what_is_against_each() -> None:
    assert choose(joined(2), NEWEST).reason == "the second generation"
    assert choose(joined(2, lanes=0), NEWEST).reason == (
        "the first generation (the second generation: no lane of NVLink or XGMI joins ranks 0 and 1)"
    )
    assert generations.none("rank 1 never came").reason == (
        "no custom all-reduce (the second generation: rank 1 never came; the first generation: rank 1 never came)"
    )


@given(seed=st.integers(0, 10**6))
def test_verdicts_are_told_as_plain_data(seed: int) -> None:
    verdict: Verdict = choose(worlds(seed), NEWEST)
    assert generations.verdict_of(json.loads(json.dumps(verdict.as_plain()))) == verdict


# Limits, to the byte.


@pytest.mark.parametrize(
    ("size", "sized", "algorithm"),
    [
        (2, 16, limits.ONE_STAGE),
        (2, 8 * MIB, limits.ONE_STAGE),
        (2, 8 * MIB + 16, ""),
        (4, 512 * KIB - 16, limits.ONE_STAGE),
        (4, 512 * KIB, limits.TWO_STAGE),
        (6, 256 * KIB - 16, limits.ONE_STAGE),
        (8, 256 * KIB, limits.TWO_STAGE),
        (8, 8 * MIB, limits.TWO_STAGE),
        (8, 8 * MIB + 16, ""),
    ],
)
def test_first_generation_ends_and_changes_where_its_kernels_do(size: int, sized: int, algorithm: str) -> None:
    assert limits_of(joined(size, settings=Settings(second=False))).algorithm(sized) == algorithm


def test_first_generation_takes_more_elsewhere() -> None:
    assert limits_of(joined(4, kind="rocm")).most() == 16 * MIB
    assert limits_of(joined(4, kind="musa")).most() == 16 * 8196 * KIB
    assert limits_of(joined(4, kind="rocm", settings=Settings(deterministic=True))).algorithm(1 << 40) == (
        limits.ONE_STAGE
    )


@pytest.mark.parametrize(
    ("release", "size", "sized", "graph", "algorithm"),
    [
        ("0.5.13", 2, 2 * MIB, False, limits.ONE_SHOT_PUSH),
        ("0.5.13", 2, 16 * MIB, False, limits.ONE_SHOT_PULL),
        ("0.5.13", 2, 16 * MIB + 16, False, ""),
        ("0.5.13", 4, 384 * KIB, True, limits.ONE_SHOT_PUSH),
        ("0.5.13", 4, 384 * KIB + 16, True, limits.TWO_SHOT_PULL),
        ("0.5.15", 3, 512 * KIB + 16, False, limits.TWO_SHOT_PULL),
        ("0.5.16", 8, 128 * KIB, False, limits.ONE_SHOT_PUSH),
        ("0.5.16", 8, 128 * KIB + 16, True, limits.TWO_SHOT_PULL),
        ("0.5.23", 2, 16 * MIB, True, limits.ONE_SHOT_PUSH),
        ("0.5.23", 2, 16 * MIB + 16, True, ""),
        ("0.5.23", 3, 3 * MIB, False, limits.ONE_SHOT_PUSH),
        ("0.5.23", 3, 3 * MIB, True, limits.TWO_SHOT_PULL),
        ("0.5.23", 4, 896 * KIB, False, limits.ONE_SHOT_PUSH),
        ("0.5.23", 4, 896 * KIB, True, limits.TWO_SHOT_PULL),
    ],
)
def test_second_generation_on_hopper(release: str, size: int, sized: int, graph: bool, algorithm: str) -> None:
    assert limits_of(joined(size), release).algorithm(sized, graph=graph) == algorithm


def test_second_generation_pushes_in_two_shots_on_blackwell_from_0_5_23_on() -> None:
    world = joined(8, capability=(10, 0))
    assert limits_of(world, "0.5.22").algorithm(2 * MIB) == limits.TWO_SHOT_PULL
    newest = limits_of(world)
    assert newest.algorithm(256 * KIB) == limits.ONE_SHOT_PUSH
    assert newest.algorithm(256 * KIB + 16) == limits.TWO_SHOT_PUSH
    assert newest.algorithm(8 * MIB) == limits.TWO_SHOT_PUSH
    assert newest.algorithm(8 * MIB + 16) == limits.TWO_SHOT_PULL
    assert newest.push_bytes == 2 * MIB  # eight ranks' parts of 8 MiB, twice


def test_multicast_is_taken_only_where_devices_have_it() -> None:
    found = limits_of(joined(8))
    assert found.algorithm(MIB, multicast=True) == limits.TWO_SHOT_MULTICAST
    assert found.algorithm(MIB) == limits.TWO_SHOT_PULL
    assert limits_of(joined(3)).algorithm(4 * MIB, multicast=True) == limits.TWO_SHOT_PULL


def test_buffers_bound_what_is_taken_and_forcing_one_uses_it_whole() -> None:
    assert limits_of(joined(8, settings=Settings(max_kib=1024))).most() == MIB
    forced = limits_of(joined(8, settings=Settings(forced_pull_kib=64 * 1024, forced_push_kib=1024)))
    assert forced.algorithm(MIB) == limits.ONE_SHOT_PUSH
    assert forced.algorithm(64 * MIB) == limits.TWO_SHOT_PULL
    assert forced.most() == 64 * MIB
    only_push = limits_of(joined(8, settings=Settings(forced_pull_kib=0)))
    assert only_push.most() == 128 * KIB
    assert only_push.pull_bytes == 0


def test_graphs_hold_inputs_on_one_machine_and_without_the_memory_saver() -> None:
    eager = limits_of(joined(4)).eager
    assert limits_of(joined(4)).graph != eager
    assert limits_of(joined(4, settings=Settings(graphs=False))).graph == eager
    assert limits_of(joined(4, nodes=2, clique="a", vmm=True)).graph == eager


# Tensors.


def odd_forms() -> dict[str, tuple[torch.Tensor, bool]]:
    """Tensors by name, and whether their elements are one stretch that ends where the storage does, or contiguous."""
    base = torch.zeros(8, 8, 8)
    return {
        "contiguous": (base, True),
        "rows from the middle": (base[2:5], True),
        "permuted": (base.permute(2, 0, 1), True),
        "last rows, permuted": (base[4:].permute(1, 2, 0), True),
        "first rows, permuted": (base[:4].permute(1, 2, 0), False),
        "columns": (base[:, :, :4], False),
        "every other row": (base[::2], False),
        "expanded": (torch.zeros(8, 1).expand(8, 4), False),
        "expanded over as many": (torch.zeros(16).as_strided((4, 4), (1, 1)), False),
        "windows over as many": (torch.zeros(32).as_strided((4, 8), (4, 1)), False),
        "one row with odd strides": (torch.zeros(64).as_strided((1, 16), (999, 1)), True),
        "scalar": (torch.zeros(()), True),
        "empty": (torch.zeros(0, 4), True),
        "channels last": (torch.zeros(2, 4, 4, 4).to(memory_format=torch.channels_last), True),
    }


@pytest.mark.parametrize("form", odd_forms())
def test_weak_contiguity_in_all_its_forms(form: str) -> None:
    tensor, expected = odd_forms()[form]
    layout = layout_of(tensor)
    assert tensors.weakly_contiguous(layout) is expected
    assert tensors.contiguous(layout) is tensor.is_contiguous()
    assert tensors.dense(layout) is torch.ops.aten.is_non_overlapping_and_dense(tensor)


@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    strides=st.lists(st.integers(0, 20), min_size=4, max_size=4),
)
def test_contiguity_is_torchs(sizes: list[int], strides: list[int]) -> None:
    tensor = torch.zeros(400).as_strided(sizes, strides[: len(sizes)])
    assert tensors.contiguous(layout_of(tensor)) is tensor.is_contiguous()
    if tensor.numel():
        assert tensors.dense(layout_of(tensor)) is torch.ops.aten.is_non_overlapping_and_dense(tensor)


@pytest.mark.parametrize("nbytes", [2, 8, 14, 18, 8 * MIB - 2])
def test_bytes_that_are_no_multiple_of_a_pack_are_refused(nbytes: int) -> None:
    layout = Layout((nbytes // 2,), (1,), 0, 2, nbytes, "bfloat16")
    assert tensors.refusal(layout, limits_of(joined(2))) == f"{nbytes} bytes are no multiple of 16"


@pytest.mark.parametrize("size", [2, 8])
def test_fewer_packs_than_ranks_are_taken(size: int) -> None:
    layout = Layout((4,), (1,), 0, 4, 16)
    assert tensors.refusal(layout, limits_of(joined(size))) == ""
    assert tensors.refusal(layout, limits_of(joined(size, settings=Settings(second=False)))) == ""


def test_types_that_no_kernel_has_and_bytes_beyond_the_end_are_refused_with_a_reason() -> None:
    found = limits_of(joined(2, settings=Settings(second=False)))
    assert tensors.refusal(Layout((4,), (1,), 0, 4, 16, "int32"), found) == (
        "int32 is none of float32, float16, bfloat16"
    )
    assert tensors.refusal(Layout((8 * MIB,), (1,), 0, 4, 32 * MIB), found) == (
        f"{32 * MIB} bytes are more than {8 * MIB}"
    )
    assert tensors.refusal(layout_of(torch.zeros(8, 8)[:, :4]), found) == ("its elements are not one stretch of memory")


# Against the kit's table of rules, which is written apart.


def imagined(world: worlds_of_the_kit.World, release: str) -> Topology:
    second = world.second if world.second is not None else within(release, "0.5.12")
    return Topology(
        tuple(
            topology.Rank(
                topology.Device(
                    str(node),
                    f"GPU-{at}",
                    world.kind,
                    world.capability,
                    (*world.cliques, *[""] * world.size)[at],
                    world.vmm,
                ),
                tuple(
                    topology.View(world.lanes * world.linked(at, peer), (at, peer) not in world.closed)
                    for peer in range(world.size)
                ),
                Settings(second=second),
            )
            for at, node in enumerate(world.nodes)
        )
    )


@pytest.mark.parametrize("release", RELEASES)
def test_thousands_of_machines_are_decided_as_the_rules_say(release: str) -> None:
    count = 5000 if release == NEWEST else 500
    machines = [*(world for _, world in worlds_of_the_kit.HISTORY), *worlds_of_the_kit.drawn(count, count)]
    wrong = [
        (world.words(), verdict.reason)
        for world in machines
        if (verdict := choose(imagined(world, release), release)).generation != oracle.generation(world, release)
    ]
    assert wrong == []
    assert {oracle.generation(world, release) for world in machines} == {SECOND, FIRST, NONE}
