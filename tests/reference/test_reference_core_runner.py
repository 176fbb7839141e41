"""The reference's model runner on the CPU: what it computes, in releases of each shape."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reference.runner_rig import Batch, serving
from sglang_conformance.journey.checkpoints import Llama
from sglang_conformance.oracles.decoders.decoder import Continuation, Decoder

RELEASES = ["0.5.11", "0.5.13", "0.5.14", "0.5.16", "0.5.18", "0.5.20", "0.5.21", "0.5.22", "0.5.23"]
MODEL = Llama(name="llama", seed=7)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "llama"
    MODEL.write(made)
    return made


def check(batch: Batch, prompts: Sequence[Sequence[int]] = MODEL.prompts[:3]) -> None:
    """Tokens are those of the oracle, and the last logits close to its own."""
    count = len(batch.tokens[0]) - len(prompts[0])
    for told, tokens, logits in zip(oracle(count, len(prompts)), batch.tokens, batch.logits.numpy(), strict=True):
        assert tuple(tokens) == (*told.prompt, *told.tokens)
        np.testing.assert_allclose(logits, told.logits[-1], atol=1e-4)


@functools.cache
def oracle(count: int, prompts: int) -> list[Continuation]:
    return Decoder.of(MODEL.config, MODEL.weights()).continued(MODEL.prompts[:prompts], count)


@pytest.fixture(autouse=True)
def _cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")


@pytest.mark.parametrize("release", RELEASES)
def test_decoding(install: Any, release: str, folder: Path) -> None:
    install(release)
    with serving(folder, device="cpu") as runner:
        batch = Batch(runner, MODEL.prompts[:3])
        batch.prefill()
        batch.decode()
        batch.decode()
    assert batch.graphs == [False, False, False]
    check(batch)


@pytest.mark.parametrize("release", ["0.5.11", "0.5.16", "0.5.23"])
def test_new_weights_are_served(install: Any, release: str, folder: Path) -> None:
    install(release)
    with serving(folder, device="cpu") as runner:
        updater = runner if release == "0.5.11" else runner.weight_updater
        batch = Batch(runner, MODEL.prompts[:1])
        batch.prefill()
        told = runner.model.lm_head.weight.detach().clone()
        assert updater.update_weights_from_tensor([("lm_head.weight", torch.zeros_like(told))]) == (True, "Success")
        batch.decode()
        assert batch.logits.abs().max() == 0
        assert updater.update_weights_from_tensor([("lm_head.weight", told)], load_format="direct")[0]
        batch.decode()
        assert batch.logits.abs().max() > 0
        with pytest.raises(NotImplementedError, match="Unknown load_format=other"):
            updater.update_weights_from_tensor([], load_format="other")
        fine, text = updater.update_weights_from_disk(str(folder), "auto", recapture_cuda_graph=True)
        assert fine, text
        assert updater.update_weights_from_disk(str(folder / "nowhere"), "auto")[0] is False
        assert torch.equal(runner.model.lm_head.weight, told)


def test_ranks_with_too_different_memory_are_refused(
    install: Any, module: Any, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    install("0.5.23")
    joining = module("sglang.srt.model_executor._joining")
    joining._check_balance(9.1, 10.0)
    with pytest.raises(RuntimeError, match=r"memory capacity is unbalanced.*pre_model_load_memory=8\.9"):
        joining._check_balance(8.9, 10.0)
    monkeypatch.setenv("SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK", "0")
    joining._check_balance(8.9, 10.0)
    assert "memory capacity is unbalanced" in log.text


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_what_is_not_served_is_refused(install: Any, release: str, folder: Path) -> None:
    install(release)
    with (
        pytest.raises(ValueError, match=r"Invalid attention backend: nonsense; there are .*torch_native"),
        serving(folder, device="cpu", attention_backend="nonsense"),
    ):
        pass
    with (
        pytest.raises(ImportError, match="keys and values of type fp8_e4m3"),
        serving(folder, device="cpu", kv_cache_dtype="fp8_e4m3"),
    ):
        pass
    with (
        pytest.raises(ImportError, match="does not cover a server with cpu_offload_gb=4"),
        serving(folder, device="cpu", cpu_offload_gb=4),
    ):
        pass


class Backend:
    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


PIECES = """
class Platform(SRTPlatform):
    _enum = PlatformEnum.OOT
    device_name = device_type = "acme"
    given = None

    def get_piecewise_backend_cls(self):
        return self.given
"""


@pytest.mark.parametrize("release", ["0.5.11", "0.5.21", "0.5.22", "0.5.23"])
def test_pieces_are_compiled_by_the_platforms_backend(
    install: Any, module: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.delenv("SGLANG_USE_CPU_ENGINE")
    platform_plugin("acme", PIECES)
    monkeypatch.setenv("SGLANG_PLATFORM", "acme")
    install(release)
    make_backend = module("sglang.srt.compilation.backend").make_backend
    platform = module("sglang.srt.platforms").current_platform
    with pytest.raises(NotImplementedError if release >= "0.5.22" else TypeError):
        make_backend(*range(9))
    type(platform).given = Backend
    assert make_backend(*range(9)).arguments == tuple(range(9))


def test_a_worker_that_the_platform_has_for_speculation(
    install: Any, module: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SGLANG_USE_CPU_ENGINE")
    platform_plugin(
        "acme",
        PIECES
        + "\n    def get_speculative_worker_cls(self, algorithm):\n        return {'EAGLE': int}.get(algorithm)\n",
    )
    monkeypatch.setenv("SGLANG_PLATFORM", "acme")
    install("0.5.23")
    kinds = module("sglang.srt.speculative.spec_info").SpeculativeAlgorithm
    assert kinds.from_string(None).is_none()
    assert kinds.from_string("eagle").create_worker(None) is int
    with pytest.raises(ImportError, match="SGLang's worker for speculative decoding by NGRAM"):
        kinds.NGRAM.create_worker(None)
    with pytest.raises(ValueError, match="Unknown speculative algorithm name: magic"):
        kinds.from_string("magic")
