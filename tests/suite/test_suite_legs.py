"""Several legs judged by one check: nothing that is wrong hides behind a leg that is not served."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sglang_conformance.hosts.serving import NotServed
from sglang_conformance.journey.leg import Leg
from sglang_conformance.suite import expect
from sglang_conformance.suite.serving import legs
from sglang_conformance.suite.serving.legs import each

LEGS = (Leg("llama"), Leg("latent"), Leg("mixtral"))


def judge(**outcomes: object) -> Callable[[Leg], object]:
    """What says of each model what is given, or raises it."""

    def judge(leg: Leg) -> object:
        outcome = outcomes.get(leg.model)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return judge


def test_what_is_said_of_each_is_told() -> None:
    assert each(LEGS, judge(llama="exact", latent=object(), mixtral="near")) == "exact; near"


def test_leg_that_is_not_served_is_told_of() -> None:
    said = each(LEGS, judge(llama="exact", latent=NotServed("it lacks cutlass")))
    assert said == f"exact; {LEGS[1]}: not seen: it lacks cutlass"


def test_nothing_is_judged_where_no_leg_is_served() -> None:
    with pytest.raises(NotServed, match="no sgl_kernel"):
        each(LEGS, judge(**dict.fromkeys(("llama", "latent", "mixtral"), NotServed("no sgl_kernel"))))


def test_wrong_leg_fails_behind_one_that_is_not_served() -> None:
    with pytest.raises(expect.Violation):
        each(LEGS, judge(latent=NotServed("it lacks cutlass"), mixtral=_violation()))


def test_leg_that_was_not_reached_is_raised_once_the_others_are_judged() -> None:
    with pytest.raises(expect.Violation):
        each(LEGS, judge(llama=expect.NotReached("born elsewhere"), mixtral=_violation()))
    with pytest.raises(expect.NotReached, match="born elsewhere"):
        each(LEGS, judge(llama=expect.NotReached("born elsewhere"), latent=NotServed("it lacks cutlass")))


class Store:
    """A store as torch's: at the ports of ``chosen`` in turn; those of ``gone`` it looks for in vain, once."""

    chosen: list[int]
    gone: set[int]

    def __init__(self, host: str, port: int, **how: bool) -> None:
        self.port = port or self.chosen.pop(0)
        if port in self.gone:
            self.gone.remove(port)
            raise torch.distributed.DistNetworkError("address already in use")


def test_store_that_torch_does_not_find_is_left_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "TCPStore", Store)
    monkeypatch.setattr(Store, "chosen", [7, 8, 7], raising=False)
    monkeypatch.setattr(Store, "gone", {7, 8}, raising=False)
    assert legs._listening().port == 7
    assert not Store.gone


def _violation() -> expect.Violation:
    with pytest.raises(expect.Violation) as raised:
        expect.fail(expected="1", seen="2")
    return raised.value
