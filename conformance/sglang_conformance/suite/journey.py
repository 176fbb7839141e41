"""JOUR: a platform serves tiny models on one rank, and every number on the way is held against float64.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..journey.leg import Leg
from ..journey.serve import standard
from . import expect
from .declare import on_ranks, requirement
from .member import Member
from .serving import blaming, judging, replaying
from .serving.legs import MODELS, PAGED, again_and_again, each, served, serving, tensors_of
from .serving.replaying import Oracle

_SEED = 101  # of other weights than a model has at first


@requirement("JOUR-001")
@on_ranks(1, joined=False)
def test_server_comes_up_and_serves(member: Member) -> str:
    return _of_each_model(lambda leg: served(member, leg))


@requirement("JOUR-002")
@on_ranks(1, joined=False)
def test_operators_compute_what_they_should(member: Member) -> str:
    return _parts(member, judging.OPERATORS)


@requirement("JOUR-003")
@on_ranks(1, joined=False)
def test_layers_compute_what_they_should(member: Member) -> str:
    return _parts(member, judging.LAYERS)


@requirement("JOUR-004")
@on_ranks(1, joined=False)
def test_pool_gives_back_what_each_layer_was_given(member: Member) -> str:
    return _parts(member, ("pool",))


@requirement("JOUR-005")
@on_ranks(1, joined=False)
def test_allocator_gives_no_slot_twice(member: Member) -> str:
    _parts(member, ("allocator",))
    return _of_each_model(lambda leg: judging.slots_are_nobodys_else(served(member, leg)))


@requirement("JOUR-006")
@on_ranks(1, joined=False)
def test_attention_looks_at_the_sequence_and_nothing_else(member: Member) -> str:
    return _parts(member, ("attention",))


@requirement("JOUR-007")
@on_ranks(1, joined=False)
def test_llama_gives_the_likeliest_tokens(member: Member) -> str:
    return judging.tokens_are_right(served(member, Leg("llama", arguments=PAGED)))


@requirement("JOUR-008")
@on_ranks(1, joined=False)
def test_latent_attention_gives_the_likeliest_tokens(member: Member) -> str:
    return judging.tokens_are_right(served(member, Leg("latent", arguments=PAGED)))


@requirement("JOUR-009")
@on_ranks(1, joined=False)
def test_experts_give_the_likeliest_tokens(member: Member) -> str:
    return judging.tokens_are_right(served(member, Leg("mixtral", arguments=PAGED)))


@requirement("JOUR-010")
@on_ranks(1, joined=False)
def test_logits_are_as_exact_as_rounding_allows(member: Member) -> str:
    return _of_each_model(lambda leg: judging.logits_are_right(served(member, leg)))


@requirement("JOUR-011")
@on_ranks(1, joined=False)
def test_tied_head_gives_the_likeliest_tokens(member: Member) -> str:
    return judging.all_is_right(served(member, Leg("llama-tied", arguments=PAGED)))


@requirement("JOUR-012")
@on_ranks(1, joined=False)
def test_short_types_give_the_likeliest_tokens(member: Member) -> str:
    try:
        made = served(member, Leg("llama", dtype="bfloat16", arguments=PAGED))
    except expect.Violation as refused:
        try:
            made = served(member, Leg("llama", dtype="float16", arguments=PAGED))
        except expect.Violation:
            raise refused from None
    return judging.all_is_right(made)


@requirement("JOUR-013")
@on_ranks(1, joined=False)
def test_second_time_gives_the_same_tokens(member: Member) -> str:
    first, again, _ = again_and_again(member)
    judging.all_is_right(again)
    judging.same_tokens(first, again, "once more")
    return f"logits differ by {judging.logits_apart(first, again):.2g}"


@requirement("JOUR-014")
@on_ranks(1, joined=False)
def test_company_changes_no_token(member: Member) -> str:
    first, _, backwards = again_and_again(member)
    judging.all_is_right(backwards)
    judging.same_tokens(first, backwards, "in another order")
    return f"logits differ by {judging.logits_apart(first, backwards):.2g}"


@requirement("JOUR-015")
@on_ranks(1, joined=False)
def test_prompts_in_pieces_give_the_likeliest_tokens(member: Member) -> str:
    legs = [Leg(model, arguments=PAGED).with_arguments({"chunked_prefill_size": 16}) for model in MODELS]
    return each(legs, lambda leg: judging.all_is_right(served(member, leg)))


@requirement("JOUR-016")
@on_ranks(1, joined=False)
def test_pages_as_the_platform_has_them_give_the_likeliest_tokens(member: Member) -> str:
    return judging.all_is_right(served(member, Leg("llama")))


@requirement("INIT-017")
@on_ranks(1, joined=False)
def test_init_backend_again_leaves_what_is_served(member: Member, platform: Any) -> str:
    leg = Leg("llama", arguments=PAGED)
    with serving(member, leg) as made:
        requests = standard(leg)
        midway = requests[0].new // 2

        def again(step: int) -> None:
            if step == midway:
                expect.ask(platform, "init_backend")

        with blaming.because(f"init_backend() was called once more before pass {midway}"):
            return judging.all_is_right(made.serve(requests, again))


@requirement("INIT-018")
@on_ranks(1, joined=False)
def test_served_models_compute_with_new_weights(member: Member) -> str:
    return _of_each_model(lambda leg: _computes_with_new_weights(member, leg))


@requirement("JOUR-017")
@on_ranks(1, joined=False)
def test_likeliest_token_is_taken(member: Member) -> str:
    return _of_each_model(lambda leg: judging.likeliest_are_taken(served(member, leg)))


def _parts(member: Member, kinds: Any) -> str:
    """Fail where the first wrong number of a model is born in these kinds of operators."""
    return _of_each_model(lambda leg: judging.parts_are_right(served(member, leg), kinds))


def _computes_with_new_weights(member: Member, leg: Leg) -> None:
    other = replace(leg.checkpoint, name=f"{leg.model}, other weights", seed=_SEED)
    with serving(member, leg, watched=False) as made:
        made.serve(standard(leg)[:2])
        expect.attempt("update_weights_from_tensor()", lambda: made.server.update(tensors_of(other)))
        found = made.serve(standard(leg)[:2])
    replaying.is_of(found, Oracle.with_weights(found, other), "after new weights were put in the place of the old ones")


def _of_each_model(judge: Callable[[Leg], object]) -> str:
    """Judge each model, and tell what is said of each."""
    return each([Leg(model, arguments=PAGED) for model in MODELS], judge)
