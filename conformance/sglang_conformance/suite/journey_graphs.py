"""JOUR: decode steps of a served model that graphs give.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..certificate.model import Finding
from ..contract.model import Contract
from ..journey.checkpoints import LLAMA, Checkpoint
from ..journey.leg import Leg, Request
from ..journey.serve import Serving, standard
from ..journey.served import Served
from . import expect
from .aids.construction import declares_graphs
from .collecting import tensors
from .declare import on_ranks, requirement
from .graphing import module
from .member import Member
from .serving import judging, replaying
from .serving.legs import PAGED, served, serving, tensors_of
from .serving.replaying import Oracle

_SIZES = (2, 4)
_LEG = Leg("llama", graphs=_SIZES, arguments=PAGED)
_FEWER = (3, 5, 7, 9)  # tokens of each request: two decode steps of four requests, two of three, two of two, two of one
_MORE = (3, 3, 5, 5, 5, 5)  # two of six, more than any graph has, and two of four
_NONE = "the platform declares no graphs that SGLang captures on this device"
_OTHERS = ("latent", "mixtral")
_NEW, _NEWER = (replace(LLAMA, name="llama, other weights", seed=seed) for seed in (101, 202))
_RECAPTURES = 3
_LEAST = 1 << 16  # bytes that a capture of the model may take for good


@requirement("JOUR-030")
@on_ranks(1, joined=False)
def test_server_comes_up_with_graphs(member: Member, platform: Any, contract: Contract) -> None:
    found = _served(member, _FEWER)
    if not _declares(member, platform, contract):
        _has_none(found)
    expect.that(
        found.captured,
        expected=f"graphs of decode steps of {' and '.join(map(str, _SIZES))} requests",
        seen="none: capture_bs of the graph runner is empty, or there is no runner",
        call=f"serving {found.leg}",
        where=replaying.place(found),
    )


@requirement("JOUR-031")
@on_ranks(1, joined=False)
def test_graphs_are_used_for_the_sizes_asked_for(member: Member, platform: Any, contract: Contract) -> None:
    found = _by_graphs(member, platform, contract)
    for step in replaying.steps(found):
        expect.that(
            step.by_graph or step.size not in _SIZES,
            expected="a graph",
            seen="none",
            call=f"serving {found.leg}: what gave {step.size} requests their tokens in pass {step.number}",
            where=replaying.place(found),
            cause=f"the runner has graphs of {found.captured}, and says by can_run_graph() or can_run() when",
        )


@requirement("JOUR-032")
@on_ranks(1, joined=False)
def test_replays_compute_the_batch_that_they_are_given(member: Member, platform: Any, contract: Contract) -> None:
    found = _by_graphs(member, platform, contract)
    replaying.are_right(found, lambda step: step.by_graph and step.size in found.captured)


@requirement("JOUR-033")
@on_ranks(1, joined=False)
def test_batches_between_two_sizes_are_filled_up(member: Member, platform: Any, contract: Contract) -> None:
    found = _by_graphs(member, platform, contract)
    replaying.are_right(found, lambda step: step.by_graph and step.size not in found.captured)


@requirement("JOUR-034")
@on_ranks(1, joined=False)
def test_larger_batches_go_without_a_graph(member: Member, platform: Any, contract: Contract) -> str:
    most = max(_by_graphs(member, platform, contract).captured)
    found = _served(member, _MORE)
    for step in replaying.steps(found):
        expect.that(
            not step.by_graph or step.size <= max(most, *found.captured),
            expected=f"no graph: there is none of more than {most}",
            seen="one",
            call=f"serving {found.leg}: what gave {step.size} requests their tokens in pass {step.number}",
            where=replaying.place(found),
        )
    replaying.are_right(found, lambda step: True)
    return ", ".join(map(str, replaying.steps(found)))


@requirement("JOUR-035")
@on_ranks(1, joined=False)
def test_tokens_by_graphs_are_the_likeliest(member: Member, platform: Any, contract: Contract) -> str:
    for found in (_by_graphs(member, platform, contract), _served(member, _MORE)):
        judging.tokens_are_right(found)
    for model in _OTHERS:
        leg = Leg(model, graphs=(2,), arguments=PAGED)
        judging.tokens_are_right(served(member, leg, _requests(leg, (4, 4))))
    without = replace(_LEG, graphs=())
    eager, by_graphs = served(member, without, _requests(without, _FEWER)), _served(member, _FEWER)
    judging.same_tokens(eager, by_graphs, "beside the same without graphs")
    return f"logits differ by {judging.logits_apart(eager, by_graphs):.2g} from those without graphs"


@requirement("JOUR-036")
@on_ranks(1, joined=False)
def test_graphs_compute_with_new_weights(member: Member, platform: Any, contract: Contract) -> None:
    _by_graphs(member, platform, contract)
    leg = Leg("llama", graphs=(2,), arguments=PAGED)
    with serving(member, leg, watched=False) as made:
        _serve(made)
        expect.attempt("update_weights_from_tensor()", lambda: made.server.update(tensors_of(_NEW)))
        _judge(made, _NEW, "after new weights were put in the place of the old ones")
        with tempfile.TemporaryDirectory(prefix="journey-") as folder:
            _NEWER.write(Path(folder))
            call = "update_weights_from_disk(recapture_cuda_graph=True)"
            expect.attempt(call, lambda: made.server.update_and_recapture(folder))
        _judge(made, _NEWER, "after new weights were loaded, and graphs captured anew")


@requirement("JOUR-037")
@on_ranks(1, joined=False)
def test_graphs_that_are_captured_anew_give_their_memory_back(
    member: Member, platform: Any, contract: Contract
) -> None:
    _by_graphs(member, platform, contract)
    streams, held = module.of(member.device), list[int]()

    def measure() -> None:
        gc.collect()
        tensors.synchronise(member.device)
        held.append(module.allocated(streams))

    with serving(member, Leg("llama", graphs=(2,), arguments=PAGED), watched=False) as made:
        for _ in range(1 + _RECAPTURES):
            expect.attempt("capturing graphs anew", made.server.recapture)
            _serve(made)
            measure()
    first, last = held[0], held[-1]
    expect.that(
        last - first < _RECAPTURES * _LEAST,
        expected=f"about {first} bytes held, as after the first capture",
        seen=f"{last}",
        call=f"{_RECAPTURES} times, graphs captured anew",
        where=replaying.place(),
        cause="a runner that is dropped, or its backend, still holds its graphs, their inputs or their outputs",
    )


@requirement("JOUR-038")
@on_ranks(2, joined=False)
def test_ranks_that_share_layers_replay_together(member: Member, platform: Any, contract: Contract) -> None:
    if not _declares(member, platform, contract):
        raise expect.Declined(_NONE)
    leg = replace(_LEG, tp=member.size)
    found = served(member, leg, _requests(leg, _FEWER))
    expect.that(found.captured, expected="graphs", seen="none", call=f"serving {leg}", where=replaying.place(found))
    replaying.are_right(found, lambda step: step.by_graph)


def _declares(member: Member, platform: Any, contract: Contract) -> bool:
    """Whether graphs are declared. SGLang captures none on the CPU, but by torch.compile where a user asks for that."""
    return member.device.type != "cpu" and declares_graphs(platform, contract)


def _by_graphs(member: Member, platform: Any, contract: Contract) -> Served:
    """The leg whose batches have graphs. Declined where the platform declares none, NotReached where there are none."""
    if not _declares(member, platform, contract):
        raise expect.Declined(_NONE)
    found = _served(member, _FEWER)
    if not found.captured:
        raise expect.NotReached("there are no graphs")
    return found


def _served(member: Member, new: Sequence[int]) -> Served:
    return served(member, _LEG, _requests(_LEG, new))


def _requests(leg: Leg, new: Sequence[int]) -> tuple[Request, ...]:
    """So many of the usual prompts, all at once, with so many tokens to make of each."""
    return tuple(replace(request, new=count, arrives=0) for request, count in zip(standard(leg), new, strict=False))


def _has_none(found: Served) -> None:
    """Declined, once it is seen that no graph was captured for a platform that declares none, and none was used."""
    used = [step for step in replaying.steps(found) if step.by_graph]
    expect.that(
        not found.captured and not used,
        expected=f"no graphs: {_NONE}",
        seen=f"graphs of {found.captured}, {len(used)} steps by them",
        call=f"serving {found.leg}",
    )
    judging.tokens_are_right(found)
    raise expect.Declined(f"{_NONE}, and is served without")


def _serve(made: Serving) -> Served:
    found: Served = expect.attempt(f"serving {made.leg}", lambda: made.serve(_requests(made.leg, (3, 3)))).value
    return found


def _judge(made: Serving, checkpoint: Checkpoint, when: str) -> None:
    """Fail where what graphs give is not by these weights; NotReached where what is computed without is not either."""
    found = _serve(made)
    try:
        replaying.are_right(found, lambda step: step.by_graph, Oracle.with_weights(found, checkpoint))
    except expect.NotReached as reason:
        raise expect.NotReached(f"{when}: {reason}") from None
    except expect.Violation as violation:
        finding = violation.finding
        raise expect.Violation(Finding(**{**finding, "call": f"{finding['call']}, {when}"})) from None
