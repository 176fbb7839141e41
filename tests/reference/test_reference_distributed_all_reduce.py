"""The choice of an engine for an all-reduce: by hand, and against rules told engine by engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_reference._all_reduce import Decision, Engine, Facts, Inside, PassedOver, decide, steps_of

RELEASES = [f"0.5.{n}" for n in range(11, 24)]
ENGINES = ("hpu", "xpu", "npu", "flashinfer", "ca", "pcie_ipc", "qr", "pymscclpp", "torch_symm_mem", "pynccl")


def decided(release: str = "0.5.23", **facts: object) -> Decision:
    return decide(Facts(**{"world_size": 2, **facts}), steps_of(release))  # type: ignore[arg-type]


def chosen(*engines: Engine, release: str = "0.5.23", **facts: object) -> str:
    return decided(release, engines=engines, **facts).engine


# By hand.


def test_one_rank_has_nothing_to_reduce() -> None:
    assert chosen(Engine("ca"), Engine("pynccl"), world_size=1) == "none"


def test_host_tensors_go_to_torch_whatever_the_group_has() -> None:
    assert chosen(Engine("ca"), Engine("pynccl"), on_host=True) == "torch.distributed"


def test_custom_all_reduce_comes_before_the_others_and_pynccl_before_torch() -> None:
    all_of_them = (Engine("ca"), Engine("qr"), Engine("torch_symm_mem"), Engine("pynccl"))
    assert [chosen(*all_of_them[n:]) for n in range(5)] == ["ca", "qr", "torch_symm_mem", "pynccl", "torch.distributed"]


def test_refused_and_disabled_engines_are_passed_over_by_name() -> None:
    engines = (Engine("ca", accepts=False), Engine("qr", disabled=True), Engine("pynccl", disabled=True))
    decision = decided(engines=engines, bytes=48, dtype="bfloat16", contiguous=False)
    assert decision.engine == "torch.distributed"
    assert decision.via == "inplace_all_reduce"
    assert dict(decision.passed_over)["ca"] == "it does not accept 48 bytes of bfloat16, not contiguous"
    assert dict(decision.passed_over)["qr"] == "disabled"
    assert dict(decision.passed_over)["pynccl"] == "it is disabled outside a graph capture"
    assert PassedOver("hpu", "the group has none") in decision.passed_over


def test_pynccl_is_for_captures_and_for_symmetric_memory() -> None:
    waiting, enabled = Engine("pynccl", disabled=True), Engine("pynccl")
    assert chosen(waiting) == "torch.distributed"
    captured = decided(engines=(enabled,), capture=True)
    assert (captured.engine, captured.via) == ("pynccl", "inplace_all_reduce")
    assert captured.reason == "it is enabled, as a graph is being captured"
    assert decided(engines=(waiting,), piecewise=True).via == "outplace_all_reduce"
    assert decided(engines=(waiting,), symmetric_memory=True).via == ""
    assert chosen(Engine("pynccl", available=False), symmetric_memory=True, capture=True) == "torch.distributed"


@pytest.mark.parametrize(("release", "engine"), [("0.5.11", "pynccl"), ("0.5.18", "pynccl"), ("0.5.19", "ca")])
def test_symmetric_memory_gives_way_to_custom_all_reduce_from_0_5_19_on(release: str, engine: str) -> None:
    assert chosen(Engine("ca"), Engine("pynccl"), symmetric_memory=True, release=release) == engine


@pytest.mark.parametrize(("release", "engine"), [("0.5.13", "ca"), ("0.5.14", "pymscclpp"), ("0.5.23", "pymscclpp")])
def test_mscclpp_comes_before_custom_all_reduce_from_0_5_14_on(release: str, engine: str) -> None:
    decision = decided(release, engines=(Engine("ca"), Engine("pymscclpp")))
    assert decision.engine == engine
    if engine != "ca":
        assert dict(decision.passed_over)["ca"] == "pymscclpp accepts the tensor and is preferred"


@pytest.mark.parametrize(("release", "via"), [("0.5.14", ""), ("0.5.15", "inplace_all_reduce")])
def test_a_devices_own_communicator_comes_first(release: str, via: str) -> None:
    assert decided(release, engines=(Engine("xpu"), Engine("ca"))).via == via


def test_engines_tell_their_generation_and_algorithm_and_why_they_refuse() -> None:
    better = (PassedOver("second", "no lane joins ranks 0 and 1"),)
    taking = decided(engines=(Engine("ca", inside=Inside("first", "one-stage", "", better)),), bytes=16)
    assert (taking.inside.generation, taking.inside.algorithm, taking.inside.passed_over) == (
        "first",
        "one-stage",
        better,
    )
    refusing = Engine("ca", accepts=False, inside=Inside("first", "", "20 bytes are no multiple of 16", better))
    disabled = Engine("qr", disabled=True, inside=Inside(refusal="the ranks are on 2 machines"))
    passed = dict(decided(engines=(refusing, disabled), bytes=20).passed_over)
    assert passed["ca"] == "it does not accept 20 bytes of float32, contiguous: 20 bytes are no multiple of 16"
    assert passed["qr"] == "disabled: the ranks are on 2 machines"


# Against rules told engine by engine: under which facts SGLang takes just this one.


def rules(facts: Facts, release: str) -> dict[str, bool]:
    number = int(release.rpartition(".")[2])
    has = {e.name: e for e in facts.engines if e.available}
    takes = {name: name in has and not has[name].disabled and has[name].accepts for name in ENGINES}
    takes["npu"] &= number < 23
    takes["flashinfer"] &= number >= 18
    takes["pcie_ipc"] &= number >= 21
    own = takes["hpu"] or takes["xpu"] or takes["npu"]
    mscclpp_first = takes["pymscclpp"] and number >= 14
    custom_first = takes["ca"] and number >= 19
    symmetric = "pynccl" in has and facts.symmetric_memory and not mscclpp_first and not custom_first and not own
    early = own or symmetric
    custom = takes["ca"] and not mscclpp_first and not takes["flashinfer"] and not early
    pcie = takes["pcie_ipc"] and not takes["ca"] and not takes["pymscclpp"] and not takes["flashinfer"] and not early
    quick = takes["qr"] and not custom and not pcie and not takes["flashinfer"] and not early
    late = early or takes["flashinfer"] or custom or pcie or quick
    torch_symmetric = takes["torch_symm_mem"] and not takes["pymscclpp"] and not late
    pynccl = "pynccl" in has and (facts.piecewise or not has["pynccl"].disabled)
    return {
        "hpu": takes["hpu"],
        "xpu": takes["xpu"] and not takes["hpu"],
        "npu": takes["npu"] and not takes["hpu"] and not takes["xpu"],
        "flashinfer": takes["flashinfer"] and not early,
        "ca": custom,
        "pcie_ipc": pcie,
        "qr": quick,
        "pymscclpp": takes["pymscclpp"] and not late,
        "torch_symm_mem": torch_symmetric,
        "pynccl": symmetric or (pynccl and not late and not takes["pymscclpp"] and not torch_symmetric),
    }


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    truth = st.booleans()
    names = draw(st.sets(st.sampled_from(ENGINES)))
    engines = tuple(Engine(name, draw(truth), draw(truth), draw(truth)) for name in sorted(names))
    return Facts(
        world_size=draw(st.integers(1, 8)),
        bytes=draw(st.integers(0, 1 << 30)),
        engines=engines,
        on_host=draw(st.integers(0, 4)) == 0,
        capture=draw(truth),
        piecewise=draw(truth),
        symmetric_memory=draw(truth),
    )


@given(facts=any_facts(), release=st.sampled_from(RELEASES))
def test_choice_is_the_one_that_the_rules_allow(facts: Facts, release: str) -> None:
    allowed = [name for name, holds in rules(facts, release).items() if holds]
    decision = decide(facts, steps_of(release))
    if facts.world_size == 1:
        assert decision.engine == "none"
    elif facts.on_host or not allowed:
        assert decision.engine == "torch.distributed"
    else:
        assert [decision.engine] == allowed


@given(facts=any_facts(), release=st.sampled_from(RELEASES))
def test_each_decision_says_why_and_whom_it_passed_over(facts: Facts, release: str) -> None:
    decision = decide(facts, steps_of(release))
    assert decision.reason
    assert all(passed.why for passed in decision.passed_over)
    assert decision == decide(facts, steps_of(release))
    present = {engine.name for engine in facts.engines}
    for passed in decision.passed_over:
        assert (passed.why == "the group has none") == (passed.engine not in present)
    if decision.engine == "torch.distributed" and not facts.on_host and facts.world_size > 1:
        known = {step.engine for step in steps_of(release)}
        assert {passed.engine for passed in decision.passed_over} == known
