"""The reference's sampler and its parameters, and the platform's say in quantisation."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sglang_reference
from sglang_reference._releases import within

RELEASES = ["0.5.11", "0.5.14", "0.5.23"]
SAMPLER, PARAMETERS = "sglang.srt.layers.sampler", "sglang.srt.sampling.sampling_params"
QUANTISING = "sglang.srt.layers.quantization"

Module = Callable[[str], Any]


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, install: Any) -> str:
    name: str = request.param
    install(name)
    return name


@pytest.fixture
def sampler(module: Module, release: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module(SAMPLER), "tensor_parallel_group", lambda: SimpleNamespace(device_group=None))
    arguments = SimpleNamespace(enable_nan_detection=True, sampling_backend="pytorch")
    monkeypatch.setattr(module(SAMPLER), "published", lambda: arguments)
    return module(SAMPLER).create_sampler()


def batch(module: Module, *wanted: dict[str, Any]) -> Any:
    reqs = [SimpleNamespace(sampling_params=module(PARAMETERS).SamplingParams(**each)) for each in wanted]
    kind = module("sglang.srt.sampling.sampling_batch_info").SamplingBatchInfo
    return kind.from_schedule_batch(SimpleNamespace(reqs=reqs, device="cpu"), 6)


def sample(module: Module, sampler: Any, logits: torch.Tensor, info: Any, logprob: bool = False) -> Any:
    output = module("sglang.srt.layers.logits_processor").LogitsProcessorOutput(next_token_logits=logits)
    rows = len(logits)
    return sampler(output, info, logprob, [0] * rows, [None] * rows, torch.arange(rows)), output


def test_greedy_takes_the_greatest(module: Module, sampler: Any) -> None:
    logits = torch.randn(3, 6)
    tokens, output = sample(module, sampler, logits.clone(), batch(module, *[{"temperature": 0}] * 3), logprob=True)
    assert tokens.tolist() == logits.argmax(-1).tolist()
    expected = torch.log_softmax(logits, -1).max(-1).values
    assert torch.allclose(output.next_token_logprobs, expected, atol=1e-6)


def test_others_draw_from_what_they_allow(module: Module, sampler: Any) -> None:
    torch.manual_seed(1)
    wanted: list[tuple[dict[str, Any], set[int]]] = [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.6}, {0, 1}),  # the first alone does not make up as much
        ({"top_p": 0.4}, {0}),
        ({"min_p": 0.5}, {0, 1}),
        ({"temperature": 1e-3}, {0}),
        ({"temperature": 100.0}, set(range(6))),
    ]
    for parameters, possible in wanted:
        logits = torch.tensor([[0.5, 0.3, 0.1, 0.05, 0.03, 0.02]]).log().repeat(300, 1)
        tokens, _ = sample(module, sampler, logits, batch(module, *[parameters] * 300))
        assert set(tokens.tolist()) == possible, parameters


def test_one_greedy_request_stays_so_among_others(module: Module, sampler: Any) -> None:
    logits = torch.tensor([[0.0, 0.1]]).repeat(100, 1)
    tokens, _ = sample(module, sampler, logits, batch(module, *[{"temperature": 0}, {}] * 50))
    assert set(tokens[::2].tolist()) == {1}
    assert set(tokens[1::2].tolist()) == {0, 1}


def test_logits_that_are_no_numbers(
    module: Module, release: str, sampler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = batch(module, {"temperature": 0})
    bad = torch.tensor([[1.0, float("nan"), 2.0, 0.0, 0.0, 0.0]])
    if not within(release, "0.5.14"):
        assert sample(module, sampler, bad.clone(), info)[0].tolist() == [2]
        monkeypatch.setenv("SGLANG_IS_IN_CI", "1")
        with pytest.raises(ValueError, match="no numbers"):
            sample(module, sampler, bad.clone(), info)
        return
    assert sample(module, sampler, bad.clone(), info)[0].tolist() == [1]  # nobody looks
    monkeypatch.setenv("SGLANG_SANITIZE_NAN_LOGITS", "true")
    assert sample(module, sampler, bad.clone(), info)[0].tolist() == [2]
    monkeypatch.setenv("SGLANG_ENABLE_ASYNC_ASSERT", "true")
    with pytest.raises(RuntimeError, match="no numbers"):
        sample(module, sampler, bad.clone(), info)


def test_batches_are_filtered_and_merged(module: Module, release: str) -> None:
    first = batch(module, {"temperature": 0}, {"temperature": 0.5, "top_k": 3})
    second = batch(module, {"top_p": 0.9})
    first.filter_batch([0], torch.tensor([0]))
    first.merge_batch(second)
    assert first.temperatures.tolist() == [[1.0], [1.0]]
    assert first.top_ks.tolist() == [1, 1 << 30]
    assert first.top_ps.tolist() == pytest.approx([1.0, 0.9])
    assert len(first) == 2
    assert not first.is_all_greedy
    assert first.is_any_greedy


def test_parameters_that_cannot_be_used(module: Module, release: str) -> None:
    kind = module(PARAMETERS).SamplingParams
    for wrong in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -2}, {"max_new_tokens": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            kind(**wrong).verify(10)
    for refused in ({"n": 2}, {"regex": "a"}, {"stop": "a"}, {"frequency_penalty": 1.0}):
        with pytest.raises(sglang_reference.NotCovered, match=next(iter(refused))):
            kind(**refused)


def test_a_vendors_sampler(module: Module, sampler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = type("Own", (module(SAMPLER).Sampler,), {})
    module(SAMPLER).register_sampler_backend("acme", own)
    assert type(module(SAMPLER).create_sampler("acme")) is own
    monkeypatch.setattr(module(SAMPLER), "published", lambda: SimpleNamespace(sampling_backend="acme"))
    assert type(module(SAMPLER).create_sampler()) is own
    module(SAMPLER).register_sampler_backend("acme", object)
    with pytest.raises(TypeError, match="must make a Sampler, and made: object"):
        module(SAMPLER).create_sampler("acme")
    with pytest.raises(ValueError, match="other"):
        module(SAMPLER).create_sampler("other")


QUANTISES = """
asked = []

class Config:
    pass

def config(self, name):
    asked.append(name)
    return Config if name == "fp8" else None

Platform.get_quantization_config = config
"""


PINS = """
asked = []
Platform.is_pin_memory_available = lambda self, device=None: bool(asked.append(device))
"""


@pytest.mark.parametrize("release", ["0.5.15", "0.5.16", "0.5.23"], indirect=False)
def test_the_platform_is_asked_for_pinned_memory(
    module: Module, platform_plugin: Any, install: Any, release: str
) -> None:
    platform_plugin("acme", PINS)
    install(release)
    batch(module, {"top_k": 3}, {})
    assert module("vendor_acme").asked == (["cpu"] if within(release, "0.5.16") else [])


@pytest.mark.parametrize("release", ["0.5.12.post1", "0.5.13", "0.5.23"], indirect=False)
def test_the_platform_may_have_a_configuration_of_its_own(
    module: Module, platform_plugin: Any, install: Any, release: str
) -> None:
    sglang_reference.uninstall()
    platform_plugin("acme", QUANTISES)
    install(release)
    quantising, vendor = module(QUANTISING), module("vendor_acme")
    with pytest.raises(ValueError, match="unheard-of"):
        quantising.get_quantization_config("unheard-of")
    assert vendor.asked == []
    if within(release, "0.5.13"):
        assert quantising.get_quantization_config("fp8") is vendor.Config
        assert vendor.asked == ["fp8"]
    with pytest.raises(sglang_reference.NotCovered, match="awq"):
        quantising.get_quantization_config("awq")
    own = type("Own", (), {})
    quantising.QUANTIZATION_METHODS["own"] = own
    assert quantising.get_quantization_config("own") is own
    assert vendor.asked == (["fp8", "awq", "own"] if within(release, "0.5.13") else [])
