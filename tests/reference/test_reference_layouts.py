"""The reference's group layouts: tables worked out by hand, an independent construction, and any scale."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_conformance.oracles import layouts as oracle
from sglang_reference._layouts import Layout, Sizes, layouts


def groups(sizes: Sizes) -> dict[str, list[list[int]]]:
    return {name: [list(group) for group in layout.groups] for name, layout in layouts(sizes).items()}


@st.composite
def any_sizes(draw: st.DrawFn, most: int = 256) -> Sizes:
    """Sizes that divide one another, of at most so many ranks."""

    def part(of: int) -> int:
        return draw(st.sampled_from([n for n in range(1, of + 1) if of % n == 0]))

    tp = draw(st.integers(1, most))
    attn_dp, moe_ep = part(tp), part(tp)
    return Sizes(
        tp=tp,
        pp=draw(st.integers(1, most // tp)),
        attn_dp=attn_dp,
        attn_cp=part(tp // attn_dp),
        moe_ep=moe_ep,
        moe_dp=part(tp // moe_ep),
        dcp=part(tp),
    )


# By hand, from the layouts that SGLang documents.


def test_tensor_groups_are_runs_and_pipeline_groups_are_strided() -> None:
    found = groups(Sizes(tp=2, pp=4))
    assert found["tp"] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert found["pp"] == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_attention_context_and_experts_of_eight_ranks() -> None:
    found = groups(Sizes(tp=8, attn_cp=2, moe_dp=2, moe_ep=4))
    assert found["attn_cp"] == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert found["attention_tp"] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found["moe_ep"] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found["moe_dp"] == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert found["moe_tp"] == [[n] for n in range(8)]


def test_attention_data_parallelism_parts_context_groups() -> None:
    found = groups(Sizes(tp=8, attn_dp=2, attn_cp=2))
    assert found["attn_cp"] == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert found["attention_tp"] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_experts_within_data_parallelism_on_two_stages() -> None:
    found = groups(Sizes(tp=8, pp=2, moe_ep=2, moe_dp=2))
    assert found["moe_tp"] == [[n, n + 1] for n in range(0, 16, 2)]
    assert found["moe_ep"] == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11], [12, 14], [13, 15]]
    assert found["moe_dp"] == [[0, 4], [1, 5], [2, 6], [3, 7], [8, 12], [9, 13], [10, 14], [11, 15]]


def test_context_partners_share_tokens_before_the_experts() -> None:
    made = layouts(Sizes(tp=4, attn_cp=2))
    assert made["moe_dp"] == Layout(made["attn_cp"].groups, shares="attn_cp")


def test_decode_context_groups_are_runs_within_tensor_groups() -> None:
    assert groups(Sizes(tp=4, pp=2, dcp=2))["dcp"] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert "dcp" not in groups(Sizes(tp=4))


def test_shared_experts_groups_stay_within_attentions() -> None:
    made = layouts(Sizes(tp=8, attn_dp=2, shared_experts_tp=2))
    assert made["shared_experts_tp"] == Layout(((0, 1), (2, 3), (4, 5), (6, 7)))
    assert layouts(Sizes(tp=8, attn_dp=2, shared_experts_tp=4))["shared_experts_tp"].shares == "attention_tp"
    assert "shared_experts_tp" not in layouts(Sizes(tp=8, shared_experts_tp=1))


def test_what_takes_all_of_tensor_parallelism_shares_its_group() -> None:
    made = layouts(Sizes(tp=4, moe_ep=4))
    assert {name: layout.shares for name, layout in made.items()} == {
        "tp": "",
        "attn_cp": "",
        "attention_tp": "tp",
        "moe_dp": "",
        "moe_ep": "tp",
        "moe_tp": "",
        "pp": "",
    }


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"tp": 0}, "the size of tp is 0"),
        ({"tp": 4, "attn_cp": 3}, r"tp \(4\) cannot be divided by attn_dp x attn_cp \(3\)"),
        ({"tp": 8, "moe_ep": 4, "moe_dp": 4}, r"cannot be divided by moe_ep x moe_dp \(16\)"),
        ({"tp": 4, "dcp": 3}, r"cannot be divided by dcp \(3\)"),
        ({"tp": 8, "attn_dp": 4, "shared_experts_tp": 4}, "cannot be divided by shared_experts_tp"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(sizes: dict[str, Any], said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        Sizes(**sizes)


def test_rank_outside_is_in_no_group() -> None:
    layout = layouts(Sizes(tp=2))["tp"]
    assert layout.of(1) == (0, 1)
    with pytest.raises(ValueError, match="rank 2 is in none"):
        layout.of(2)


# Against the independent construction.


@given(sizes=any_sizes())
def test_groups_are_the_expected_ones(sizes: Sizes) -> None:
    plain = {name: size for name, size in vars(sizes).items() if size is not None}
    assert groups(sizes) == oracle.expected(plain, sizes.world)


@given(sizes=any_sizes())
def test_every_kind_parts_the_ranks(sizes: Sizes) -> None:
    for name, made in groups(sizes).items():
        assert sorted(rank for group in made for rank in group) == list(range(sizes.world)), name
        assert len({len(group) for group in made}) == 1, name
        assert made == sorted(made), name


@given(sizes=any_sizes())
def test_subdivisions_stay_within_tensor_groups(sizes: Sizes) -> None:
    for name, made in groups(sizes).items():
        if name != "pp":
            assert all(len({rank // sizes.tp for rank in group}) == 1 for group in made), name


@settings(max_examples=5, deadline=None)
@given(sizes=any_sizes(most=100_000))
def test_any_scale(sizes: Sizes) -> None:
    plain = {name: size for name, size in vars(sizes).items() if size is not None}
    assert groups(sizes) == oracle.expected(plain, sizes.world)
