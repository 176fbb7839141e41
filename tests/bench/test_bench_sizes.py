"""Lists on the command line: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest

from sglang_conformance.bench import sizes
from sglang_conformance.bench.measuring import cases
from sglang_conformance.bench.model import Case
from sglang_conformance.errors import OptionError

KIB, MIB = 1 << 10, 1 << 20
FLOAT = ("float32",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("512", 512),
        ("1K", KIB),
        ("64k", 64 * KIB),
        ("1.5M", 3 * MIB // 2),
        ("2G", 1 << 31),
        ("1 KiB", KIB),
        ("8MB", 8 * MIB),
    ],
)
def test_sizes_are_read(text: str, found: int) -> None:
    assert sizes.size(text, "--sizes") == found


@pytest.mark.parametrize("text", ["", "x", "-1K", "0", "1T", "1.0001K", "1e3", "K", "99999G", "1K1", "²K"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(OptionError, match=r"as in 512, 64K, 1\.5M or 1G"):
        sizes.size(text, "--min")


def test_listed_sizes_are_put_in_order_once() -> None:
    assert sizes.sizes("1M, 1K,1024", None, None, None, FLOAT) == (KIB, MIB)


def test_default_is_what_help_says() -> None:
    assert sizes.sizes(None, None, None, None, FLOAT) == (KIB, 64 * KIB, MIB, 16 * MIB)


def test_steps_go_by_the_factor_as_far_as_the_largest() -> None:
    assert sizes.sizes(None, "8", "100", 2.0, FLOAT) == (8, 16, 32, 64)
    assert sizes.sizes(None, None, "4K", None, FLOAT) == (KIB, 2 * KIB, 4 * KIB)
    assert sizes.sizes(None, "1K", "1K", None, FLOAT) == (KIB,)
    assert sizes.sizes(None, "4", "20", 1.5, FLOAT) == (4, 6, 9, 13, 19)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("1K", "1K", None, None), "leave one of both out"),
        (("1K", None, None, 2.0), "leave one of both out"),
        ((None, "1M", "1K", None), "--min=1M is more than --max=1K"),
        ((None, "1K", "1M", 1.0), "more than 1 is needed"),
        ((None, "1K", "1M", float("nan")), "more than 1 is needed"),
        ((None, "1K", "1M", float("inf")), "more than 1 is needed"),
        ((None, "4", "1G", 1.0001), "more than 64 sizes"),
        ((",", None, None, None), "--sizes is empty"),
        (("2,1K", None, None, None), "4 bytes are the least"),
    ],
)
def test_sizes_that_cannot_be_are_told(
    given: tuple[str | None, str | None, str | None, float | None], said: str
) -> None:
    with pytest.raises(OptionError, match=said) as refused:
        sizes.sizes(*given, FLOAT)
    assert "\n" not in str(refused.value)


def test_types_are_known_by_torchs_names() -> None:
    assert sizes.dtypes("bfloat16,float32,bfloat16") == ("bfloat16", "float32")
    with pytest.raises(OptionError, match="'int8' is none of float32, float16, bfloat16"):
        sizes.dtypes("int8")


def test_engines_stand_in_the_tables_order() -> None:
    known = ("group", "custom", "pynccl")
    assert sizes.engines(None, known) == known
    assert sizes.engines("pynccl,group", known) == ("group", "pynccl")
    with pytest.raises(OptionError, match="'nccl' is none of group, custom, pynccl"):
        sizes.engines("nccl", known)


def test_world_sizes() -> None:
    assert sizes.world_sizes(None) is None
    assert sizes.world_sizes("4,2,4") == (2, 4)


@pytest.mark.parametrize("text", ["1", "0", "33", "two", "2,", "-2", "2.0", "²", ","])
def test_world_sizes_that_cannot_be(text: str) -> None:
    if text == "2,":
        assert sizes.world_sizes(text) == (2,)
        return
    with pytest.raises(OptionError, match="as in 2,4"):
        sizes.world_sizes(text)


def test_cases_hold_whole_elements() -> None:
    found = list(cases((2, 4), ("float32", "bfloat16"), (1001, 1003)))
    assert found[:3] == [Case(2, "float32", 1000), Case(2, "bfloat16", 1000), Case(2, "bfloat16", 1002)]
    assert [case.ranks for case in found] == [2] * 3 + [4] * 3
