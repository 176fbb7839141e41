"""The collectives of the reference's groups, on real ranks, against values worked out by hand or by numpy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.group_ranks import ranks
from sglang_conformance.ranks.pool import Pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder: Path = tmp_path_factory.mktemp("meeting")
    with ranks("join", folder=str(folder)) as made:
        yield made


def each(pool: Pool, method: str, *args: list[Any], size: int = 2, **kwargs: list[Any]) -> tuple[Any, ...]:
    """Call a method of the group on every rank: each argument is a list with a value for each rank."""
    calls = [
        {"method": method, "args": [a[n] for a in args], "kwargs": {name: a[n] for name, a in kwargs.items()}}
        for n in range(size)
    ]
    return pool.run("reference.group_calls:call", calls, size=size).values


def tensors(arrays: list[Any], dtype: str = "float32", **more: Any) -> list[Any]:
    return [{"tensor": np.asarray(a).tolist(), "dtype": dtype, "shape": list(np.shape(a)), **more} for a in arrays]


def results(values: tuple[Any, ...]) -> list[Any]:
    return [np.array(value["result"]["values"]).reshape(value["result"]["shape"]) for value in values]


def blocks(size: int, rows: int = 2, columns: int = 3) -> list[Any]:
    """A block of numbers for each rank, each number its own."""
    return list(np.arange(size * rows * columns, dtype=float).reshape(size, rows, columns))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32", "int64", "uint8"])
def test_all_reduce_sums_in_place(pool: Pool, size: int, dtype: str) -> None:
    values = each(pool, "all_reduce", tensors([[2**n, 3 * 2**n] for n in range(size)], dtype), size=size)
    for value in values:
        assert value["result"] == {"shape": [2], "values": [2**size - 1, 3 * (2**size - 1)], "dtype": dtype}
        assert value["same"]


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (7,), (5, 1, 3)])
def test_all_reduce_of_any_shape(pool: Pool, shape: tuple[int, ...]) -> None:
    for result in results(each(pool, "all_reduce", tensors([np.full(shape, 1.0), np.full(shape, 4.0)]))):
        assert result.shape == shape
        assert (result == 5).all()


def test_quantised_all_reduce_sums_in_place(pool: Pool) -> None:
    for value in each(pool, "quant_all_reduce", tensors([[1.0], [2.0]])):
        assert (value["result"]["values"], value["same"]) == ([3.0], True)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("dim", [0, 1, -1, -2])
def test_all_gather_joins_along_a_dimension_and_leaves_the_input(pool: Pool, size: int, dim: int) -> None:
    parts = blocks(size)
    values = each(pool, "all_gather", tensors(parts), dim=[dim] * size, size=size)
    for number, (value, result) in enumerate(zip(values, results(values), strict=True)):
        assert np.array_equal(result, np.concatenate(parts, axis=dim))
        assert value["args"][0]["values"] == parts[number].tolist()
        assert not value["same"]


def test_all_gather_of_a_transposed_tensor(pool: Pool) -> None:
    square = [np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])]
    for result in results(each(pool, "all_gather", tensors(square, transposed=True), dim=[0, 0])):
        assert result.tolist() == [[1, 3], [2, 4], [5, 7], [6, 8]]


def test_all_gather_into_a_list(pool: Pool) -> None:
    rooms = [tensors([[0.0], [0.0]])] * 2
    for value in each(pool, "all_gather", tensors([[1.0], [2.0]]), output_tensor_list=rooms):
        assert value["result"] is None
        assert [room["values"] for room in value["args"][1]] == [[1.0], [2.0]]


def test_collectives_of_one_rank_give_the_input_back(pool: Pool) -> None:
    for method in ("all_reduce", "all_gather", "gather", "broadcast", "reduce_scatter_along_dim"):
        [value] = each(pool, method, tensors([[[1.0, 2.0]]]), size=1)
        assert value["same"], method
    [value] = each(pool, "all_to_all_single", tensors([[0.0]]), tensors([[3.0]]), size=1)
    assert value["args"][0]["values"] == [3.0]
    [value] = each(pool, "all_gatherv", tensors([[1.0, 2.0]]), sizes=[[2]], size=1)
    assert [one["values"] for one in value["result"]] == [[1.0, 2.0]]


def test_all_gather_into_tensor_and_reduce_scatter_tensor(pool: Pool) -> None:
    for value in each(pool, "all_gather_into_tensor", tensors([[0.0] * 4] * 2), tensors([[1.0, 2.0], [3.0, 4.0]])):
        assert value["args"][0]["values"] == [1, 2, 3, 4]
    inputs = tensors([[1.0, 2, 3, 4], [10.0, 20, 30, 40]])
    values = each(pool, "reduce_scatter_tensor", tensors([[0.0] * 2] * 2), inputs)
    assert [value["args"][0]["values"] for value in values] == [[11, 22], [33, 44]]


@pytest.mark.parametrize("sizes", [[2, 2, 2], [1, 3, 2], [0, 4, 1], [3, 0, 0], [0, 0, 0]])
def test_all_gatherv_joins_uneven_rows(pool: Pool, sizes: list[int]) -> None:
    rows = [np.arange(n * 2, dtype=float).reshape(n, 2) + 100 * (rank + 1) for rank, n in enumerate(sizes)]
    for value in each(pool, "all_gatherv", tensors(rows), sizes=[sizes] * 3, size=3):
        [gathered] = value["result"]
        assert gathered["shape"] == [sum(sizes), 2]
        assert gathered["values"] == np.concatenate(rows).tolist()


def test_all_gatherv_of_several_tensors_and_into_an_output(pool: Pool) -> None:
    inputs = [
        [*tensors([[1.0]]), *tensors([[[5, 6]]], "int64")],
        [*tensors([[2.0, 3.0]]), *tensors([[[7, 8], [9, 9]]], "int64")],
    ]
    for value in each(pool, "all_gatherv", inputs, sizes=[[1, 2]] * 2):
        assert [one["values"] for one in value["result"]] == [[1, 2, 3], [[5, 6], [7, 8], [9, 9]]]
    output = tensors([[0.0] * 2] * 2)
    for value in each(pool, "all_gatherv", tensors([[4.0], [5.0]]), output=output):
        assert value["args"][1]["values"] == [4.0, 5.0]


@pytest.mark.parametrize("sizes", [None, [1, 3], [4, 0], [0, 4]])
def test_reduce_scatterv_gives_each_rank_its_rows_of_the_sum(pool: Pool, sizes: list[int] | None) -> None:
    parts = [np.arange(8.0).reshape(4, 2), 10 * np.arange(8.0).reshape(4, 2)]
    values = each(pool, "reduce_scatterv", tensors(parts), sizes=[sizes] * 2)
    expected = np.split(parts[0] + parts[1], np.cumsum(sizes or [2, 2])[:-1])
    for value, result, rows, part in zip(values, results(values), expected, parts, strict=True):
        assert result.shape == rows.shape
        assert np.array_equal(result, rows)
        assert value["args"][0]["values"] == part.tolist()


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_reduce_scatter_along_a_dimension(pool: Pool, dim: int) -> None:
    parts = [np.arange(12.0).reshape(2, 6), 100 * np.arange(12.0).reshape(2, 6)]
    found = results(each(pool, "reduce_scatter_along_dim", tensors(parts), dim=[dim] * 2))
    for result, expected in zip(found, np.split(parts[0] + parts[1], 2, axis=dim), strict=True):
        assert np.array_equal(result, expected)


def test_reduce_scatter_of_a_list(pool: Pool) -> None:
    lists = [tensors([[1.0], [2.0]]), tensors([[10.0], [20.0]])]
    values = each(pool, "reduce_scatter", tensors([[0.0], [0.0]]), lists)
    assert [(value["result"]["values"], value["same"]) for value in values] == [([11.0], True), ([22.0], True)]


@pytest.mark.parametrize("dst", [0, 2])
def test_gather_gives_all_to_one(pool: Pool, dst: int) -> None:
    parts = blocks(3)
    values = each(pool, "gather", tensors(parts), dst=[dst] * 3, dim=[1] * 3, size=3)
    assert [value["result"] is None for value in values] == [number != dst for number in range(3)]
    assert values[dst]["result"]["values"] == np.concatenate(parts, axis=1).tolist()


def test_broadcast_writes_the_sources_tensor_everywhere(pool: Pool) -> None:
    for value in each(pool, "broadcast", tensors([[1.0], [2.0], [3.0]]), src=[1] * 3, size=3):
        assert (value["result"]["values"], value["same"]) == ([2.0], True)


def test_all_to_all_exchanges_parts(pool: Pool) -> None:
    inputs = tensors([[10.0 * n + to for to in range(3)] for n in range(3)])
    values = each(pool, "all_to_all_single", tensors([[0.0] * 3] * 3), inputs, size=3)
    assert [value["args"][0]["values"] for value in values] == [[0, 10, 20], [1, 11, 21], [2, 12, 22]]


def test_objects_reach_every_rank(pool: Pool) -> None:
    first = {"a": [1, None]}
    values = each(pool, "broadcast_object", [first, None, "x"], size=3)
    assert [value["result"] for value in values] == [first] * 3
    values = each(pool, "broadcast_object_list", [[1, "b"], [None, None]], src=[1, 1])
    assert [(value["result"], value["same"]) for value in values] == [([None, None], True)] * 2
    values = each(pool, "all_gather_object", ["zero", {"one": 1}])
    assert [value["result"] for value in values] == [["zero", {"one": 1}]] * 2


def test_dictionary_reaches_every_rank(pool: Pool) -> None:
    sent = {
        "n": 3,
        "t": tensors([[[1.0, 2.0]]])[0],
        "empty": tensors([np.empty((0, 4))])[0],
        "i": tensors([7], "int64")[0],
    }
    for value in each(pool, "broadcast_tensor_dict", [sent, None]):
        assert list(value["result"]) == ["n", "t", "empty", "i"]
        assert value["result"]["n"] == 3
        assert value["result"]["t"] == {"shape": [1, 2], "values": [[1.0, 2.0]], "dtype": "float32"}
        assert value["result"]["empty"]["shape"] == [0, 4]
        assert value["result"]["i"] == {"shape": [], "values": 7, "dtype": "int64"}


def test_each_rank_passes_on_to_the_next(pool: Pool) -> None:
    before = [3, 0, 1, 2]
    found = pool.run("reference.group_calls:pass_on", {"how": "tensor"}, size=4).values
    assert [one["values"] for one in found] == [[2.0**n, n] for n in before]
    assert pool.run("reference.group_calls:pass_on", {"how": "object"}, size=4).values == tuple(
        ["from", n] for n in before
    )
    for how in ("dictionary", "exchange"):
        found = pool.run("reference.group_calls:pass_on", {"how": how}, size=4).values
        assert [one["rank"] for one in found] == before
        assert [one["a"]["values"] for one in found] == [[[n, n], [n, n]] for n in before]
        assert {tuple(one["none"]["shape"]) for one in found} == {(0, 3)}
        assert [one["b"]["values"] for one in found] == before
        assert [list(one) for one in found] == [["rank", "a", "none", "b"]] * 4


def test_group_knows_its_ranks(pool: Pool) -> None:
    found = pool.run("reference.group_calls:describe", size=3).values
    assert [one["next_rank"] for one in found] == [1, 2, 0]
    assert [one["prev_rank"] for one in found] == [2, 0, 1]
    assert [one["is_first_rank"] for one in found] == [True, False, False]
    assert [one["is_last_rank"] for one in found] == [False, False, True]
    assert [one["rank_in_group"] for one in found] == [one["local_rank"] for one in found] == [0, 1, 2]
    assert {(one["first_rank"], one["last_rank"], tuple(one["ranks"])) for one in found} == {(0, 2, (0, 1, 2))}


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "error"),
    [
        ("all_gather", [{"tensor": [1.0]}], {"dim": 1}, "AssertionError"),
        ("all_gather", [{"tensor": 1.0}], {}, "AssertionError"),
        ("gather", [{"tensor": [1.0]}], {"dim": -2}, "AssertionError"),
        ("reduce_scatter_along_dim", [{"tensor": [1.0]}], {"dim": 3}, "AssertionError"),
        ("reduce_scatter_along_dim", [{"tensor": [1.0, 2.0, 3.0]}], {}, "AssertionError"),
        ("reduce_scatterv", [{"tensor": [1.0]}], {"sizes": [1, 1]}, "AssertionError"),
        ("reduce_scatterv", [{"tensor": [1.0, 2.0]}], {"output": {"tensor": [1.0, 2.0]}}, "AssertionError"),
        ("all_gatherv", [{"tensor": [1.0]}], {"sizes": [1]}, "AssertionError"),
        ("all_gatherv", [{"tensor": [1.0]}], {"sizes": [3, 3]}, "AssertionError"),
        ("all_gatherv", [{"tensor": [1.0]}], {"output": {"tensor": [1.0]}}, "AssertionError"),
        ("all_gatherv", [[{"tensor": [1.0]}]], {"output": {"tensor": [1.0, 2.0]}}, "ValueError"),
        ("broadcast", [{"tensor": [1.0]}], {"src": 2}, "AssertionError"),
        ("broadcast_object", ["x"], {"src": 2}, "AssertionError"),
        ("broadcast_object", ["x"], {"src": 1}, "AssertionError"),
        ("broadcast_object_list", [["x"]], {"src": 2}, "AssertionError"),
        ("broadcast_tensor_dict", [{}], {"src": 2}, "AssertionError"),
        ("send_object", ["x"], {"dst": 2}, "AssertionError"),
        ("recv_object", [], {"src": 2}, "AssertionError"),
        ("send_tensor_dict", [{}], {"dst": 5}, "AssertionError"),
        ("send_tensor_dict", [[1]], {}, "AssertionError"),
        ("recv_tensor_dict", [], {"src": 5}, "AssertionError"),
        ("send_recv_tensor_dict", [{}], {"recv_src": 2}, "AssertionError"),
        ("send_recv_tensor_dict", [{}], {"send_dst": 2}, "AssertionError"),
    ],
)
def test_what_does_not_fit_is_refused(pool: Pool, method: str, args: list[Any], kwargs: Any, error: str) -> None:
    check = {"method": method, "args": args, "kwargs": kwargs}
    assert [found.get("error") for found in pool.run("reference.group_calls:call", check, size=2).values] == [error] * 2


def test_ranks_of_one_machine_find_each_other(pool: Pool) -> None:
    assert pool.run("reference.group_calls:same_node", size=3).values == ([True] * 3,) * 3


def test_groups_of_a_callers_own(pool: Pool) -> None:
    wishes = [[0, 2], [3, 1, 1], [2, 0], [1, 3]]
    found = pool.run("reference.group_calls:custom_groups", {"wishes": wishes}, size=4).values
    assert found == ([2, 0, 2], [4, 1, 3], [2, 0, 2], [4, 1, 3])


def test_all_reduce_explains_itself(pool: Pool) -> None:
    [alone] = pool.run("reference.group_calls:explained", size=1).values
    assert alone == ["none", "a group of one rank has nothing to reduce: the input is the result"]
    for engine, reason in pool.run("reference.group_calls:explained", size=2).values:
        assert engine == "torch.distributed"
        assert "host memory" in reason


def test_engines_of_a_plugin_are_used_in_their_turn(pool: Pool) -> None:
    for found in pool.run("reference.group_calls:engines", size=2).values:
        assert (found["small is"], found["large is"], found["captured is"]) == ("ca", "torch.distributed", "pynccl")
        assert found["in place"]
        assert found["gathered"][0]["values"] == [[7.0, 7.0], [7.0, 7.0]]
        captured = ["custom all-reduce", "capture begins", "capture ends"]
        assert found["calls"] == [*captured, "all_reduce", "start", "all_gather sizes=None", "end"]
        assert not found["enabled after"]
