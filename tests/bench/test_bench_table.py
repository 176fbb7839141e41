"""The table: within 100 columns, each figure under its name, and what a person must be told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.taken import SETTING, measured, on_cpu
from sglang_conformance.bench import layout, table

HUGE = measured(1 << 34)


@pytest.mark.parametrize("case", [measured(), measured(4, dtype="bfloat16"), HUGE, measured(wrong=1 << 40)])
def test_lines_fit_a_terminal_of_100_columns(case: object) -> None:
    lines = [*table.heading(SETTING), *table.columns(32)]
    lines += [*table.block(case), *table.closing([case])]  # type: ignore[arg-type, list-item]
    assert max(map(len, lines)) <= layout.WIDTH
    assert all(line == line.rstrip() for line in lines)


def test_figures_stand_under_their_names() -> None:
    *_, names, rule = table.columns(2)
    row = next(table.block(measured()))
    for name, figure in {
        "size": "1 MiB",
        "count": "262144",
        "µs": "220.2",
        "backend": "3.81x",
        "a copy": "2.10x",
        "#wrong": "0",
    }.items():
        end = names.index(name) + len(name)
        assert row[:end].endswith(figure), (name, row)
    assert row.index("group (pynccl)") == names.index("engine")
    assert row.index("float32") == names.index("dtype")
    assert set(rule) == {"-"}


def test_size_is_named_once_a_block() -> None:
    first, *others = table.block(measured())
    assert "1 MiB" in first
    assert not any("MiB" in line or "float32" in line for line in others)
    assert [line.split()[0] for line in others] == ["pynccl", "backend", "copy"]


def test_long_names_and_large_counts_leave_the_columns_where_they_are() -> None:
    case = measured(wrong=419_430_400)
    long = tuple(replace(taken, by="torch_symm_mem") if taken.by else taken for taken in case.taken)
    group, pynccl, *_ = table.block(replace(case, taken=long))
    plain, *_ = table.block(case)
    assert group.replace("group (torch_sy…", "group (pynccl)  ") == plain
    assert pynccl.endswith(" 4.2e+08")
    assert len(pynccl) == len(plain)


def test_copy_has_no_bus_and_no_backend() -> None:
    *_, copy = table.block(measured())
    assert copy.split() == ["copy", "104.9", "10.0", "1.00x", "0"]


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (4, "4 B"),
        (1000, "1000 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1 MiB"),
        (3 << 29, "1.5 GiB"),
        (1025, "1025 B"),
    ],
)
def test_sizes_are_named(size: int, name: str) -> None:
    assert layout.sized(size) == name


def test_what_was_not_there_is_told_once_with_its_reason() -> None:
    assert list(table.closing([measured(), measured(4096)])) == [
        "custom: not measured: the group has none",
        "every value is right, those of the warm-up too",
    ]


def test_what_was_not_there_for_some_sizes_names_them() -> None:
    whole = measured(4096)
    lines = list(table.closing([measured(), type(whole)(whole.case, whole.taken)]))
    assert lines[0] == "custom: not measured for 1 MiB: the group has none"


def test_wrong_values_are_shouted_with_their_engine() -> None:
    *_, last = table.closing([measured(), measured(wrong=3)])
    assert last.startswith("WRONG VALUES: 3 elements, by pynccl; ")


def test_heading_says_where_and_how() -> None:
    text = "\n".join(table.heading(SETTING))
    for said in ("sim of sglang-simulated 1.0", "SGLang 0.5.23", "cpu:gloo,sim:simccl", "A processor", "torch 2.13.0"):
        assert said in text
    assert "2 and 4, each with one of the 4 devices" in text
    assert "median of 3 iterations after 5 of warm-up" in text


def test_heading_says_where_ranks_are_crowded() -> None:
    assert "on 2 cores; they take turns" in "\n".join(table.heading(on_cpu((2, 4))))
    assert "take turns" not in "\n".join(table.heading(on_cpu((2,))))
