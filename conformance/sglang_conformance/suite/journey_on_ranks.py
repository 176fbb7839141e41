"""JOUR: a model whose layers, or whose parts of each layer, several ranks share.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from ..hosts import serving as host
from ..journey.leg import Leg, Request
from ..journey.serve import standard
from ..journey.served import Served
from . import expect
from .declare import on_ranks, requirement
from .member import Member
from .serving import judging, together
from .serving.legs import MODELS, PAGED, each, must_be_there, served, serving

_SHARE = 0.9  # of a rank's free memory that all others must have, too (0.5.23, srt/model_executor/model_runner.py)
_FRACTION = 0.005  # of its memory that a rank may take, where memory decides
_HELD = 0.02  # of a rank's free memory that is taken beforehand
_UNBALANCED = "unbalanced"
_LEGS = {
    2: (
        *(Leg(model, tp=2, arguments=PAGED) for model in MODELS),
        Leg("mixtral", tp=2, ep=2, arguments=PAGED),
        Leg("llama", pp=2, arguments=PAGED),
    ),
    4: (
        *(Leg(model, tp=4, arguments=PAGED) for model in MODELS[:2]),
        Leg("mixtral", tp=4, ep=2, arguments=PAGED),
        Leg("llama", tp=2, pp=2, arguments=PAGED),
    ),
}


@requirement("JOUR-020")
@on_ranks(2, 4, joined=False)
def test_ranks_agree_about_their_memory(member: Member, platform: Any) -> None:
    free = member.side.to_all(_free(member))
    least = min(range(member.size), key=free.__getitem__)
    expect.that(
        member.number != least or free[least] >= _SHARE * max(free),
        expected=f"at least {_SHARE:g} of what every other rank has free: {_listed(free)} GiB",
        seen=f"{free[least]:.3f} GiB",
        call=f"get_available_gpu_memory({member.device.type!r}, {member.device.index or 0}), before anything is served",
        where=expect.place_of(platform, "get_current_memory_usage"),
        cause="it is get_device_total_memory() less get_current_memory_usage() of the rank's device; SGLang refuses to "
        "start ranks whose memory is unbalanced",
    )


@requirement("JOUR-021")
@on_ranks(2, 4, joined=False)
def test_servers_come_up_and_serve(member: Member) -> str:
    return each(_legs(member), lambda leg: _served(member, leg))


@requirement("INIT-016")
@on_ranks(2, 4, joined=False)
def test_ranks_take_memory_of_their_own_device_only(member: Member, platform: Any) -> None:
    leg = _legs(member)[0]
    found = _served(member, leg).elsewhere
    if found is None:
        raise expect.Declined("torch does not count what tensors hold on each device, or all are the host's")
    expect.equal(
        {f"{member.device.type}:{index}": held for index, held in found.items()},
        {},
        call=f"serving {leg}; bytes that tensors of rank {member.number} hold on devices other than {member.device}",
        where=expect.place_of(platform, "init_backend"),
        cause="the rank's device is made current by torch's module after init_backend(): what is made before that, or "
        "without an index where that is not heeded, is on the first device",
    )


@requirement("JOUR-022")
@on_ranks(2, joined=False)
def test_pools_are_sized_by_the_rank_that_has_the_least(member: Member) -> None:
    import torch

    leg = Leg("llama", tp=member.size).with_arguments({"max_total_tokens": None, "mem_fraction_static": _FRACTION})
    last = member.number == member.size - 1
    held = int(_HELD * _free(member) * 2**30) if last and member.device.type != "cpu" else 0
    taken = torch.empty(held, dtype=torch.uint8, device=member.device)
    with serving(member, leg, watched=False) as made:
        sizes = member.side.to_all(made.server.memory()["total"])
    del taken
    expect.equal(
        sizes[member.number],
        sizes[0],
        call=f"slots for tokens, beside those of rank 0; rank {member.size - 1} has {_HELD:.0%} less memory free",
        cause="all ranks take the least of their memory, which they reduce on the host's tensors by the backend of "
        "get_torch_distributed_backend_str(): pools of several sizes run full at several times",
    )


@requirement("JOUR-023")
@on_ranks(2, 4, joined=False)
def test_every_rank_computes_its_share(member: Member) -> str:
    return _parts(member, (*judging.OPERATORS, *judging.LAYERS, "pool", "allocator", "attention"))


@requirement("JOUR-024")
@on_ranks(2, 4, joined=False)
def test_reductions_give_every_rank_the_sum(member: Member) -> str:
    return _parts(member, ("reduction",))


@requirement("JOUR-025")
@on_ranks(2, 4, joined=False)
def test_stages_are_given_what_the_ones_before_gave(member: Member) -> str:
    return _parts(member, ("stage",))


@requirement("JOUR-026")
@on_ranks(2, 4, joined=False)
def test_all_ranks_choose_the_same_tokens(member: Member) -> str:
    return each(_legs(member), lambda leg: together.same_tokens(member, _served(member, leg)))


@requirement("JOUR-027")
@on_ranks(2, 4, joined=False)
def test_ranks_that_share_layers_give_the_likeliest_tokens(member: Member) -> str:
    return _tokens(member, lambda leg: leg.pp == 1 and leg.ep == 1)


@requirement("JOUR-028")
@on_ranks(2, 4, joined=False)
def test_ranks_that_share_experts_give_the_likeliest_tokens(member: Member) -> str:
    return _tokens(member, lambda leg: leg.ep > 1)


@requirement("JOUR-029")
@on_ranks(2, 4, joined=False)
def test_stages_of_a_pipeline_give_the_likeliest_tokens(member: Member) -> str:
    return _tokens(member, lambda leg: leg.pp > 1)


def _legs(member: Member) -> tuple[Leg, ...]:
    if member.size not in _LEGS:
        must_be_there(f"the models have no shares for {member.size} ranks: say --world-size=2, 4 or both")
    return _LEGS[member.size]


def _served(member: Member, leg: Leg) -> Served:
    return served(member, leg, _requests(leg))


def _requests(leg: Leg) -> tuple[Request, ...]:
    """Three of the usual prompts at once, a single token and both sides of a page's end, and few tokens of each."""
    usual = [replace(request, arrives=0) for request in standard(leg, new=3)]
    return (usual[0], usual[2], usual[3])


def _parts(member: Member, kinds: Collection[str]) -> str:
    """Fail where the first wrong number of a leg is born in these kinds."""
    return each(_legs(member), lambda leg: together.parts_are_right(member, _served(member, leg), kinds))


def _tokens(member: Member, wanted: Callable[[Leg], bool]) -> str:
    def judge(leg: Leg) -> None:
        judging.tokens_are_right(_served(member, leg))
        judging.logits_are_right(_served(member, leg))

    return each([leg for leg in _legs(member) if wanted(leg)], judge)


def _free(member: Member) -> float:
    """The GiB that SGLang's core computes to be free on the rank's device."""
    host.load()
    ask = importlib.import_module("sglang.srt.utils.common").get_available_gpu_memory
    return float(expect.attempt("get_available_gpu_memory()", lambda: ask(member.device.type, member.local)).value)


def _listed(numbers: list[float]) -> str:
    return ", ".join(f"{number:.3f}" for number in numbers)
