"""The reference's models against float64: every kind, in several releases, on one rank and on several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.group_ranks import ranks
from sglang_conformance.journey.checkpoints import CHECKPOINTS
from sglang_conformance.oracles.decoders.decoder import Decoder
from sglang_conformance.ranks.pool import Pool

PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6, 5], [2, 7], [1, 8, 2, 8, 1, 8, 2]]
MORE = 4


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with ranks() as made:
        yield made


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in CHECKPOINTS}
    for name, folder in made.items():
        CHECKPOINTS[name].write(folder)
    return made


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """Of each model, the tokens that follow each prompt, and the logits that they were chosen by."""
    return {
        name: Decoder.of(each.config, each.weights()).continued(PROMPTS, MORE) for name, each in CHECKPOINTS.items()
    }


@pytest.fixture
def run(pool: Pool, folders: dict[str, Path], expected: dict[str, Any], tmp_path: Path) -> Any:
    def ran(name: str, release: str, tp: int = 1, pp: int = 1, ep: int = 1, within: float = 1e-4, **how: Any) -> None:
        found = pool.run(
            "reference.model_ranks:logits",
            {
                "folder": str(tmp_path),
                "release": release,
                "model": str(folders[name]),
                "sequences": [[*each.prompt, *each.tokens[:-1]] for each in expected[name]],
                "prompts": [len(prompt) for prompt in PROMPTS],
                "tp": tp,
                "pp": pp,
                "ep": ep,
                **how,
            },
            size=tp * pp,
            seconds=120,
        ).values
        assert [each is None for each in found] == [True] * tp * (pp - 1) + [False] * tp
        for each in found[tp * (pp - 1) :]:
            steps = np.array(each).swapaxes(0, 1)
            for computed, continuation in zip(steps, expected[name], strict=True):
                scale = np.abs(continuation.logits).max()
                assert np.abs(computed - continuation.logits).max() < within * max(1.0, scale)
                if within < 1e-3:
                    assert computed.argmax(axis=1).tolist() == list(continuation.tokens)

    return ran


EVERY = [(release, name) for release in ("0.5.11", "0.5.23") for name in sorted(CHECKPOINTS)]


@pytest.mark.parametrize(("release", "name"), [*EVERY, ("0.5.16", "llama"), ("0.5.20", "latent"), ("0.5.21", "latent")])
def test_logits_are_those_of_float64(run: Any, name: str, release: str) -> None:
    run(name, release)


@pytest.mark.parametrize(("name", "dtype"), [("llama", "float16"), ("latent", "bfloat16"), ("mixtral", "bfloat16")])
def test_smaller_types_come_near_it(run: Any, name: str, dtype: str) -> None:
    run(name, "0.5.23", dtype=dtype, within=0.003 if dtype == "float16" else 0.03)


@pytest.mark.parametrize(
    ("release", "name", "sizes"),
    [
        ("0.5.11", "llama", {"tp": 2}),
        ("0.5.23", "llama", {"tp": 4}),
        ("0.5.11", "llama-tied", {"pp": 2}),
        ("0.5.23", "llama-tied", {"pp": 2}),
        ("0.5.20", "latent", {"tp": 2, "pp": 2}),
        ("0.5.23", "latent", {"tp": 2, "pp": 2}),
        ("0.5.11", "mixtral", {"tp": 2, "ep": 2}),
        ("0.5.23", "mixtral", {"tp": 4, "ep": 2}),
    ],
)
def test_several_ranks_compute_the_same(run: Any, release: str, name: str, sizes: dict[str, int]) -> None:
    run(name, release, **sizes)


@pytest.mark.parametrize(
    ("release", "name", "graph"),
    [
        ("0.5.11", "llama", True),
        ("0.5.23", "llama", False),
        ("0.5.23", "llama", True),
        ("0.5.23", "latent", True),
        ("0.5.23", "mixtral", True),
    ],
)
def test_the_simulated_device_serves_the_same(run: Any, name: str, release: str, graph: bool) -> None:
    run(name, release, device="sim", graph=graph)
