from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglang_conformance.journey.checkpoints import CHECKPOINTS, LATENT, LLAMA, MIXTRAL
from sglang_conformance.oracles.decoders import arithmetic, points
from sglang_conformance.oracles.decoders.arithmetic import Array
from sglang_conformance.oracles.decoders.decoder import Decoder, Trace
from sglang_conformance.oracles.decoders.points import Block, Columns, Place, Point

PROMPTS = [(3, 1, 4, 1, 5, 9, 2, 6), (200,), tuple(range(300, 317))]
MODELS = sorted(CHECKPOINTS)
PLACES = [(2, 1), (4, 1), (2, 2), (4, 2), (4, 4)]


def decoder(name: str) -> Decoder:
    checkpoint = CHECKPOINTS[name]
    return Decoder.of(checkpoint.config, checkpoint.weights())


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    return {name: decoder(name).trace(PROMPTS) for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_the_oracle_agrees_with_transformers(name: str, tmp_path: Path) -> None:
    """It computes norms, angles and shares in float32 whatever the type, so the last digits are not to be compared."""
    transformers: Any = pytest.importorskip("transformers")
    import torch

    checkpoint = CHECKPOINTS[name]
    checkpoint.write(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
    )
    for layer in model.model.layers if name == "latent" else ():  # SGLang gives this norm the model's eps
        layer.self_attn.kv_a_layernorm.variance_epsilon = checkpoint.eps
    trace = decoder(name).trace(PROMPTS)
    for prompt, span in zip(PROMPTS, trace.batch.spans, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0].numpy()
        np.testing.assert_allclose(logits, trace.logits[span], atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_continuation_is_what_whole_sequences_choose_step_by_step(name: str) -> None:
    oracle = decoder(name)
    sequences = [list(prompt) for prompt in PROMPTS]
    for found in range(4):
        trace = oracle.trace(sequences)
        rows = trace.logits[trace.batch.last]
        for sequence, continued, logits in zip(sequences, oracle.continued(PROMPTS, 4), rows, strict=True):
            np.testing.assert_allclose(continued.logits[found], logits, atol=1e-10)
            best, second = np.sort(logits)[::-1][:2]
            assert continued.margins[found] == pytest.approx(best - second, abs=1e-10)
            sequence.append(int(logits.argmax()))
    assert [list(c.prompt) + list(c.tokens) for c in oracle.continued(PROMPTS, 4)] == sequences


@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_is_computed_alike_beside_others_and_before_more_tokens(name: str, traces: dict[str, Trace]) -> None:
    longer = decoder(name).trace([(*PROMPTS[2], 7, 8)])
    for point, alone in zip(traces[name].points, longer.points, strict=True):
        np.testing.assert_allclose(point.value[traces[name].batch.spans[2]], alone.value[:-2], atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_every_point_has_a_name_of_its_own_and_a_row_for_each_token(name: str, traces: dict[str, Trace]) -> None:
    trace = traces[name]
    names = [point.name for point in trace.points]
    assert len(set(names)) == len(names)
    assert {point.value.shape[0] for point in trace.points} == {sum(map(len, PROMPTS))}
    assert trace.batch.row(2, 3) == 12
    assert trace.point("logits_processor").value is trace.logits


@pytest.mark.parametrize(("size", "experts"), PLACES)
@pytest.mark.parametrize("name", MODELS)
def test_what_ranks_have_makes_the_whole(name: str, size: int, experts: int, traces: dict[str, Trace]) -> None:
    places = [Place(rank, size, experts) for rank in range(size)]
    for point in traces[name].points:
        parts = [point.part(place) for place in places]
        if point.partial:
            np.testing.assert_allclose(sum(parts), point.value, atol=1e-12)
            assert not np.allclose(parts[0], point.value)
        else:
            _together(point, parts, size)


def _together(point: Point, parts: list[Array], size: int) -> None:
    """Columns stand in one rank's part each; where a block has fewer groups than there are ranks, in several alike."""
    if isinstance(point.held, points.Everywhere):
        assert all(part is point.value for part in parts)
    elif isinstance(point.held, points.Vocabulary):
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), point.value)
    elif isinstance(point.held, Columns):
        widths = [max(1, block.count // size) * block.width for block in point.held.blocks]
        cuts = list(itertools.accumulate(widths))[:-1]
        for index, block in enumerate(point.held.blocks):
            each = size // min(size, block.count)
            shares = [np.split(part, cuts, axis=1)[index] for part in parts]
            start = sum(b.count * b.width for b in point.held.blocks[:index])
            whole = point.value[:, start : start + block.count * block.width]
            np.testing.assert_array_equal(np.concatenate(shares[::each], axis=1), whole)
            for rank, share in enumerate(shares):
                np.testing.assert_array_equal(share, shares[rank // each * each])


def test_a_rank_of_four_has_two_query_heads_and_shares_a_key_head() -> None:
    merged = np.arange((8 + 2 + 2) * 32)[None]
    held = Columns((Block(8, 32), Block(2, 32), Block(2, 32)))
    part = held.part(merged, Place(3, 4))[0]
    assert part.tolist() == [*range(192, 256), *range(256 + 32, 256 + 64), *range(320 + 32, 320 + 64)]


def test_a_vocabulary_is_filled_up_before_it_is_divided() -> None:
    shares = [points.vocabulary_share(300, Place(rank, 4)) for rank in range(4)]
    assert [(share.start, share.stop) for share in shares] == [(0, 80), (80, 160), (160, 240), (240, 300)]


def test_the_ranks_of_an_expert_are_neighbours() -> None:
    places = [Place(rank, 4, 2) for rank in range(4)]
    assert [(p.expert_part, p.within_experts.rank, p.within_experts.size) for p in places] == [
        (0, 0, 2),
        (0, 1, 2),
        (1, 0, 2),
        (1, 1, 2),
    ]


def test_latent_attention_is_the_same_by_the_keys_and_values_that_are_made_of_it(traces: dict[str, Trace]) -> None:
    trace, own, config = traces["latent"], "model.layers.1.self_attn.", LATENT.config
    heads, plain = config["num_attention_heads"], config["qk_nope_head_dim"]
    rows = len(trace.logits)
    raised = trace.point(own + "kv_b_proj").value.reshape(rows, heads, -1)
    turned = np.repeat(trace.point(own + "rotary_emb:k").value[:, None], heads, axis=1)
    keys = np.concatenate([raised[..., :plain], turned], axis=2)
    queries = np.concatenate(
        [
            trace.point(own + "q_proj").value.reshape(rows, heads, -1)[..., :plain],
            trace.point(own + "rotary_emb:q").value.reshape(rows, heads, -1),
        ],
        axis=2,
    )
    given = trace.batch.attended(1, queries, keys, raised[..., plain:], keys.shape[2] ** -0.5)
    np.testing.assert_allclose(given.reshape(rows, -1), trace.point(own + "attn_mha").value, atol=1e-12)


def test_the_pool_holds_the_rotated_keys_and_the_plain_values(traces: dict[str, Trace]) -> None:
    llama, latent = traces["llama"], traces["latent"]
    own = "model.layers.0.self_attn."
    values = llama.point(own + "qkv_proj").value[:, -64:]
    np.testing.assert_array_equal(llama.point("token_to_kv_pool.0:v").value, values)
    np.testing.assert_array_equal(llama.point("token_to_kv_pool.0:k").value, llama.point(own + "rotary_emb:k").value)
    entry = [latent.point(own + name).value for name in ("kv_a_layernorm", "rotary_emb:k")]
    np.testing.assert_array_equal(latent.point("token_to_kv_pool.0:latent").value, np.concatenate(entry, axis=1))


def test_a_rotation_keeps_lengths_and_tells_distances_alone() -> None:
    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((2, 1, 1, 16))
    for paired in (False, True):

        def at(vector: Array, position: int, paired: bool = paired) -> Array:
            turned: Array = arithmetic.rotated(vector, np.array([position]), 100.0, paired=paired)[0, 0]
            return turned

        assert at(key, 9) @ at(key, 9) == pytest.approx(np.sum(key * key))
        assert at(query, 9) @ at(key, 4) == pytest.approx(at(query, 105) @ at(key, 100))
        assert at(query, 9) @ at(key, 4) != pytest.approx(at(query, 9) @ at(key, 5))
    angle = 3.0
    first = arithmetic.rotated(np.array([[[1.0, 0.0, 0.0, 0.0]]]), np.array([3]), 1e4, paired=False)[0, 0]
    np.testing.assert_allclose(first, [np.cos(angle), 0, np.sin(angle), 0], atol=1e-15)
    first = arithmetic.rotated(np.array([[[1.0, 0.0, 0.0, 0.0]]]), np.array([3]), 1e4, paired=True)[0, 0]
    np.testing.assert_allclose(first, [np.cos(angle), np.sin(angle), 0, 0], atol=1e-15)


def test_the_experts_of_a_token_are_the_best_and_their_shares_make_one(traces: dict[str, Trace]) -> None:
    own, trace = "model.layers.0.block_sparse_moe.", traces["mixtral"]
    scores = trace.point(own + "gate").value
    chosen, shares = trace.point(own + "topk:ids").value, trace.point(own + "topk:weights").value
    np.testing.assert_array_equal(chosen, np.argsort(-scores, axis=1)[:, : MIXTRAL.chosen])
    powers = np.exp(scores)
    kept = np.take_along_axis(powers, chosen, axis=1)
    np.testing.assert_allclose(shares, kept / kept.sum(axis=1, keepdims=True), atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_following_what_was_seen_changes_what_comes_of_it_and_nothing_before(
    name: str, traces: dict[str, Trace]
) -> None:
    wrong = "model.layers.1.self_attn.o_proj"
    followed = decoder(name).followed(PROMPTS, lambda p: p.value * 2 if p.name == wrong else p.value)
    differ = [
        point.name
        for point, right in zip(followed.points, traces[name].points, strict=True)
        if not np.allclose(point.value, right.value)
    ]
    names = [point.name for point in followed.points]
    assert differ[0] == names[names.index(wrong) + 1]
    assert differ[-1] == "logits_processor"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "not GPT2LMHeadModel"),
        ({"rope_scaling": {"type": "yarn"}}, "no rope_scaling"),
        ({"q_lora_rank": 16}, "no q_lora_rank"),
        ({"kv_lora_rank": 16, "first_k_dense_replace": 1}, "no experts beside latent attention"),
    ],
)
def test_a_model_that_it_does_not_know_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Decoder.of({**LLAMA.config, **changed}, LLAMA.weights())


@pytest.mark.parametrize("sequences", [[], [(1, 2), ()]])
def test_an_empty_batch_is_refused(sequences: list[tuple[int, ...]]) -> None:
    oracle = decoder("llama")
    with pytest.raises(ValueError, match="one token or more"):
        oracle.trace(sequences)
    with pytest.raises(ValueError, match="one token or more"):
        oracle.continued(sequences, 1)


def test_places_and_rows_that_there_are_not_are_refused(traces: dict[str, Trace]) -> None:
    for rank, size, experts in ((2, 2, 1), (-1, 2, 1), (0, 4, 3)):
        with pytest.raises(ValueError, match="no place"):
            Place(rank, size, experts)
    with pytest.raises(ValueError, match="do not divide"):
        Block(4).share(Place(0, 3))
    with pytest.raises(IndexError, match="no position 8"):
        traces["llama"].batch.row(0, 8)
    with pytest.raises(KeyError):
        traces["llama"].point("model.layers.2.mlp")
