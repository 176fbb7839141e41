from __future__ import annotations

from dataclasses import replace

import pytest

from journey import made
from sglang_conformance.journey import birth
from sglang_conformance.journey.watch import Seen, Token

MODELS = ("llama", "latent", "mixtral")
R0 = range(16, 32)


@pytest.mark.parametrize("model", MODELS)
def test_right_numbers_are_no_birth(model: str) -> None:
    assert birth.first(made.passes(model), made.truth(model)) is None


@pytest.mark.parametrize("model", MODELS)
def test_each_wrong_number_is_born_where_it_is(model: str) -> None:
    for point in made.truth(model).trace.points:
        if point.output == "ids":
            continue  # of chosen experts, another number is another expert
        given = made.changed(made.passes(model), 1, made.spoilt(point.module, point.output))
        found = birth.first(given, made.truth(model))
        assert found is not None, point.name
        told = (found.kind, found.module, found.output, found.number, found.mode)
        assert told == (point.operator, point.module, point.output, 1, "decode")
        assert found.column == 0 or found.kind == "topk"  # experts are compared in the order of their numbers
        assert found.token.request == "r1"
        assert found.seen - found.expected == pytest.approx(1.0)


def test_number_within_its_tolerance_is_right() -> None:
    true = made.truth()
    name = "model.layers.0.mlp.act_fn"
    least = float(true.tolerances[name].min())
    for part, wrong in ((0.9, False), (400.0, True)):
        given = made.changed(made.passes(), 0, made.spoilt(name, by=part * least))
        assert (birth.first(given, true) is not None) is wrong


def test_first_of_several_is_told_and_what_is_no_number_is_wrong() -> None:
    given = made.changed(made.passes(), 2, made.spoilt("model.layers.0.input_layernorm"))
    given = made.changed(given, 1, made.spoilt("model.layers.1.mlp.down_proj", by=float("nan")))
    found = birth.first(given, made.truth())
    assert found is not None
    assert str(found) == "model.layers.1.mlp.down_proj, column 0, position 7 of request r1"
    assert [each.module for each in birth.differences(given, made.truth())] == [
        "model.layers.1.mlp.down_proj",
        "model.layers.0.input_layernorm",
    ]


def test_pool_that_is_wrong_in_a_slot_that_two_have_is_the_allocators_fault() -> None:
    slots = {"r0": R0, "r1": [*range(32, 35), 16, *range(36, 48)]}
    given = made.changed(made.passes(slots=slots), 1, made.spoilt("token_to_kv_pool.0", "k", row=0))
    found = birth.first(given, made.truth())
    assert found is not None
    assert (found.kind, found.token, found.others) == ("allocator", Token("r0", 0), ("position 3 of request r1",))


def test_pool_that_is_wrong_in_a_slot_of_its_own_is_the_pools_fault() -> None:
    given = made.changed(made.passes(), 1, made.spoilt("token_to_kv_pool.0", "k", row=0))
    found = birth.first(given, made.truth())
    assert found is not None
    assert (found.kind, found.others) == ("pool", ())


def test_slot_whose_other_holder_has_gone_meanwhile_was_still_given_twice() -> None:
    slots = {"r0": R0, "r1": [*range(32, 35), 16, *range(36, 48)]}
    given = made.changed(made.passes(slots=slots), 2, made.spoilt("token_to_kv_pool.0", "k", row=0))
    given = (*given[:2], replace(given[2], slots={"r0": given[2].slots["r0"]}))
    found = birth.first(given, made.truth())
    assert found is not None
    assert (found.kind, found.others) == ("allocator", ("position 3 of request r1",))


def test_slot_that_another_had_before_is_its_own_now() -> None:
    given = made.changed(made.passes(), 2, made.spoilt("token_to_kv_pool.0", "k", row=1))
    before = replace(given[0], slots={"r1": (*given[0].slots["r1"][:-1], 17)}, rows=given[0].rows[1:])
    # r0 has slot 17, for position 1, from the second pass on; r1 had it in the first one.
    found = birth.first((before, *given[1:]), made.truth())
    assert found is not None
    assert (found.kind, found.token, found.others) == ("pool", Token("r0", 1), ())


def test_modules_that_are_not_in_the_model_are_named() -> None:
    def without(seen: Seen) -> Seen | None:
        return None if ".layers.0.mlp." in seen.module else made.spoilt("model.layers.1.input_layernorm")(seen)

    found = birth.first(made.changed(made.passes(), 0, without), made.truth())
    assert found is not None
    assert found.kind == "unseen"
    assert found.others == tuple(f"model.layers.0.mlp.{name}" for name in ("gate_up_proj", "act_fn", "down_proj"))


def test_layers_of_other_stages_are_not_missed() -> None:
    def of_second_stage(seen: Seen) -> Seen | None:
        if seen.module == "model.embed_tokens" or ".layers.0." in seen.module or seen.module.endswith("pool.0"):
            return None
        return made.spoilt("model.layers.1.input_layernorm", "residual")(seen)

    found = birth.first(made.changed(made.passes(), 0, of_second_stage), made.truth())
    assert found is not None
    assert found.kind == "residual"


def test_slots_may_be_shared_by_those_that_begin_alike() -> None:
    true = made.truth()
    given = made.passes(slots={"r0": R0, "r1": [16, *range(33, 48)]})
    found = birth.shared(given, true)
    assert found is not None
    assert (found[0].number, found[1], found[2]) == (0, Token("r0", 0), Token("r1", 0))
    assert birth.shared(made.passes(), true) is None
    alike = replace(true.trace.batch, sequences=(true.trace.batch.sequences[1],) * 2)
    assert birth.shared(given, replace(true, trace=replace(true.trace, batch=alike))) is None


def test_tokens_are_alike_only_at_one_place_after_the_same_tokens() -> None:
    true = made.truth()
    assert true.alike(Token("r1", 3), Token("r1", 3))
    assert not true.alike(Token("r1", 3), Token("r1", 4))
    assert not true.alike(Token("r0", 0), Token("r1", 0))
