from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from journey import plain
from sglang_conformance.journey import tolerances
from sglang_conformance.journey.checkpoints import CHECKPOINTS
from sglang_conformance.oracles.decoders.decoder import Decoder, Trace
from sglang_conformance.oracles.decoders.points import Point

MODELS = sorted(CHECKPOINTS)
# How the sums of a right platform are taken: the parts that ranks add, and the order within each.
SUMS = [(1, 0), (2, 1), (4, 2)]
# Of the prompts' lengths; a single token attends to itself alone, so most faults of attention are none.
TAKEN = (7, 17)

# The first point that is wrong where an operator is, and all were given what they should be given.
BORN = {
    "eps": "model.layers.0.input_layernorm",
    "no rope": "model.layers.0.self_attn.rotary_emb:q",
    "late position": "model.layers.0.self_attn.rotary_emb:q",
    "dropped token": "model.layers.0.self_attn.attn",
    "early token": "model.layers.0.self_attn.attn",
    "other layer's keys": "model.layers.1.self_attn.attn",
    "no scale": "model.layers.0.self_attn.attn",
    "no norm weight": "model.layers.1.input_layernorm",
    "no residual": "model.layers.1.post_attention_layernorm:residual",
    "gate and up exchanged": "model.layers.1.mlp.act_fn",
    "half a sum": "model.layers.0.self_attn.o_proj",
}
# By other names in other models.
OTHERWISE = {
    "latent": {
        "model.layers.0.self_attn.attn": "model.layers.0.self_attn.attn_mqa",
        "model.layers.1.self_attn.attn": "model.layers.1.self_attn.attn_mqa",
    },
    "mixtral": {"model.layers.1.mlp.act_fn": "model.layers.1.block_sparse_moe.experts"},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads lose more than they win on such small numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Truth:
    weights: dict[str, NDArray[np.float32]]
    oracle: Decoder
    trace: Trace
    allowed: dict[str, dict[str, NDArray[np.float64]]]


@cache
def truth(name: str) -> Truth:
    checkpoint = CHECKPOINTS[name]
    weights = checkpoint.weights()
    oracle = Decoder.of(checkpoint.config, weights)
    trace = oracle.trace([prompt for prompt in checkpoint.prompts if len(prompt) in TAKEN])
    allowed = {dtype: tolerances.along(oracle, trace, dtype) for dtype in tolerances.DTYPES}
    return Truth(weights, oracle, trace, allowed)


def seen(name: str, dtype: str, **rest: Any) -> dict[str, NDArray[Any]]:
    """What a platform's operators gave for all prompts, by the oracle's names."""
    made: dict[str, list[NDArray[Any]]] = {}
    for sequence in truth(name).trace.batch.sequences:
        model = plain.of(CHECKPOINTS[name].config, truth(name).weights, getattr(torch, dtype), **rest)
        model.logits(list(sequence))
        for point, value in model.seen.items():
            made.setdefault(point, []).append(value.double().numpy())
    return {point: np.concatenate(values) for point, values in made.items()}


def followed(name: str, given: dict[str, NDArray[Any]]) -> Trace:
    def instead(point: Point) -> NDArray[Any]:
        return given[point.name].astype(point.value.dtype) if point.name in given else point.value

    return truth(name).oracle.followed(truth(name).trace.batch.sequences, instead)


@pytest.mark.parametrize("dtype", tolerances.DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_a_right_platform_stays_well_within(name: str, dtype: str) -> None:
    for parts, order in SUMS:
        given = seen(name, dtype, parts=parts, order=order)
        for point in truth(name).trace.points:
            if point.name in given:
                off = np.abs(given[point.name] - point.value)
                assert np.all(off <= 0.75 * truth(name).allowed[dtype][point.name][:, None]), point.name
        after = followed(name, given)
        alone = tolerances.alone(after, dtype)
        for point in after.points:
            if point.name in given:
                off = np.abs(given[point.name] - point.value)
                assert np.all(off <= 0.75 * alone[point.name]), point.name


@pytest.mark.parametrize("fault", plain.FAULTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_fault_of_one_operator_shows_in_the_logits_and_is_found_where_it_is(
    name: str, dtype: str, fault: str
) -> None:
    given = seen(name, dtype, fault=fault)
    last = truth(name).trace.batch.last
    off = np.abs(given["logits_processor"] - truth(name).trace.logits)[last].max(axis=1)
    assert np.any(off > truth(name).allowed[dtype]["logits_processor"][last])

    after = followed(name, given)
    alone = tolerances.alone(after, dtype)
    wrong = [
        point.name
        for point in after.points
        if point.name in given and np.any(np.abs(given[point.name] - point.value) > alone[point.name])
    ]
    assert wrong[0] == OTHERWISE.get(name, {}).get(BORN[fault], BORN[fault])


@pytest.mark.parametrize("name", MODELS)
def test_a_platform_that_computes_in_a_shorter_type_than_it_says_is_not_within(name: str) -> None:
    for dtype, shorter in (("float32", "float16"), ("float16", "bfloat16")):
        off = np.abs(seen(name, shorter)["logits_processor"] - truth(name).trace.logits)
        assert np.any(off > truth(name).allowed[dtype]["logits_processor"][:, None])


def test_tolerances_are_the_same_each_time_and_wider_for_shorter_types() -> None:
    name = "llama"
    again = tolerances.along(truth(name).oracle, truth(name).trace, "bfloat16")
    for point, rows in truth(name).allowed["bfloat16"].items():
        np.testing.assert_array_equal(again[point], rows)
        assert np.all(np.isfinite(rows))
        if "embed" not in point and point != "model.layers.0.input_layernorm:residual":
            assert np.all(truth(name).allowed["float32"][point] < rows / 1000)
            assert np.all(truth(name).allowed["float16"][point] < rows / 4)


def test_a_token_is_undecided_where_its_margin_is_below_twice_the_tolerance() -> None:
    margins, allowed = np.array([0.3, 0.19, 0.21]), np.array([0.1, 0.1, 0.1])
    assert tolerances.undecided(margins, allowed).tolist() == [False, True, False]
    assert tolerances.undecided(margins, 0.2).tolist() == [True, True, True]


def test_a_type_without_tolerances_is_refused() -> None:
    with pytest.raises(ValueError, match="no tolerance for float8_e5m2: there is one for float32, bfloat16, float16"):
        tolerances.along(truth("llama").oracle, truth("llama").trace, "float8_e5m2")
