"""Decode steps from graphs of the simulated device: the plugin's runner, and SGLang's with the plugin's backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.group_ranks import ranks
from sglang_conformance.journey.checkpoints import CHECKPOINTS
from sglang_conformance.oracles.decoders.decoder import Continuation, Decoder
from sglang_conformance.ranks.pool import Pool

STEPS = 3
PROMPTS = 3
MODEL = CHECKPOINTS["llama"]
SGLANGS = "sglang.srt.model_executor.runner.decode_cuda_graph_runner.DecodeCudaGraphRunner"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with ranks() as made:
        yield made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("models") / "llama"
    MODEL.write(made)
    return str(made)


@pytest.fixture(scope="module")
def expected() -> list[Continuation]:
    return Decoder.of(MODEL.config, MODEL.weights()).continued(MODEL.prompts[:PROMPTS], STEPS + 1)


@pytest.fixture
def decoded(pool: Pool, model: str, tmp_path: Path, expected: list[Continuation]) -> Any:
    def run(release: str, size: int = 1, **how: Any) -> dict[str, Any]:
        arguments = {
            "folder": str(tmp_path),
            "release": release,
            "model": model,
            "prompts": [list(prompt) for prompt in MODEL.prompts[:PROMPTS]],
            "steps": STEPS,
            "given": {"tp_size": size, "max_running_requests": 4, **how.pop("given", {})},
            **how,
        }
        found = pool.run("reference.runner_ranks:decoded", arguments, size=size, seconds=120).values
        for each in found:
            for told, tokens, logits in zip(expected, each["tokens"], each["logits"], strict=True):
                assert tuple(tokens) == (*told.prompt, *told.tokens)
                np.testing.assert_allclose(logits, told.logits[-1], atol=1e-4)
        first: dict[str, Any] = found[0]
        return first

    return run


@pytest.mark.parametrize("release", ["0.5.11", "0.5.13", "0.5.14", "0.5.16", "0.5.21", "0.5.23"])
def test_platforms_runner_pads_and_replays(decoded: Any, release: str) -> None:
    found = decoded(release)
    assert found["runner"] == "SimGraphRunner"
    assert found["sizes"] == [1, 2, 4]
    assert found["graphs"] == [False, True, True, True]
    assert found["asked"].count("get_graph_runner_cls") == 1


@pytest.mark.parametrize("release", ["0.5.21", "0.5.23"])
def test_sglangs_runner_captures_by_the_platforms_backend(decoded: Any, release: str) -> None:
    found = decoded(release, runner=SGLANGS)
    assert found["runner"] == "DecodeCudaGraphRunner"
    assert found["graphs"] == [False, True, True, True]
    assert found["asked"].count("get_full_graph_backend_cls") == 1


@pytest.mark.parametrize("release", ["0.5.16", "0.5.23"])
@pytest.mark.parametrize(
    ("how", "asked"),
    [({"without_graphs": True}, 0), ({"given": {"attention_backend": "torch_native"}}, 0)],
    ids=["platform-has-none", "attention-has-none"],
)
def test_nothing_is_captured(decoded: Any, release: str, how: dict[str, Any], asked: int) -> None:
    found = decoded(release, **how)
    assert found["graphs"] == [False] * (STEPS + 1)
    assert found["asked"].count("get_graph_runner_cls") == asked


def test_sizes_that_the_user_names(decoded: Any) -> None:
    found = decoded("0.5.23", given={"cuda_graph_bs_decode": [2]})
    assert found["sizes"] == [2]
    assert found["graphs"] == [False] * (STEPS + 1)
