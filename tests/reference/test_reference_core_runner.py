"""The reference's model runner on the CPU: what it computes, in releases of each shape."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
