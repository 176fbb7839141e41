"""JOUR: a platform serves tiny models on one rank, and every number on the way is held against float64.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from ..journey.leg import Leg
from . import expect
from .declare import on_ranks, requirement
from .member import Member
from .serving import judging
from .serving.legs import MODELS, PAGED, served


@requirement("JOUR-001")
@on_ranks(1, joined=False)
def test_server_comes_up_and_serves(member: Member) -> None:
    for model in MODELS:
        served(member, Leg(model, arguments=PAGED))


@requirement("JOUR-002")
@on_ranks(1, joined=False)
def test_operators_compute_what_they_should(member: Member) -> None:
    _parts(member, judging.OPERATORS)


@requirement("JOUR-003")
@on_ranks(1, joined=False)
def test_layers_compute_what_they_should(member: Member) -> None:
    _parts(member, judging.LAYERS)


@requirement("JOUR-004")
@on_ranks(1, joined=False)
def test_pool_gives_back_what_each_layer_was_given(member: Member) -> None:
    _parts(member, ("pool",))


@requirement("JOUR-005")
@on_ranks(1, joined=False)
def test_allocator_gives_no_slot_twice(member: Member) -> None:
    _parts(member, ("allocator",))
    for model in MODELS:
        judging.slots_are_nobodys_else(served(member, Leg(model, arguments=PAGED)))


@requirement("JOUR-006")
@on_ranks(1, joined=False)
def test_attention_looks_at_the_sequence_and_nothing_else(member: Member) -> None:
    _parts(member, ("attention",))


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
    return "; ".join(judging.logits_are_right(served(member, Leg(model, arguments=PAGED))) for model in MODELS)


def _parts(member: Member, kinds: Any) -> None:
    """Fail where the first wrong number of a model is born in these kinds of operators."""
    elsewhere: list[expect.NotReached] = []
    for model in MODELS:
        try:
            judging.parts_are_right(served(member, Leg(model, arguments=PAGED)), kinds)
        except expect.NotReached as reason:
            elsewhere.append(reason)
    if elsewhere:
        raise elsewhere[0]
