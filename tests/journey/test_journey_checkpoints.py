from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sglang_conformance.journey import tolerances
from sglang_conformance.journey.checkpoints import CHECKPOINTS, LENGTHS, MIXTRAL, Checkpoint
from sglang_conformance.oracles.decoders.decoder import Decoder

MODELS = sorted(CHECKPOINTS)
NEW = 16

# The numbers of each model, in the order of its weights.
DIGESTS = {
    "latent": "7f644d35ba8a07ce",
    "llama": "ab0a7b88928e14c0",
    "llama-tied": "591e891a2a13d738",
    "mixtral": "43a0b8e3592d525c",
}


def decoder(checkpoint: Checkpoint) -> Decoder:
    return Decoder.of(checkpoint.config, checkpoint.weights())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_the_same_numbers_everywhere(name: str) -> None:
    digest = hashlib.sha256()
    for weight, numbers in CHECKPOINTS[name].weights().items():
        digest.update(weight.encode() + numbers.astype("<f4").tobytes())
    assert digest.hexdigest()[:16] == DIGESTS[name]


@pytest.mark.parametrize("name", MODELS)
def test_short_types_hold_every_weight_exactly(name: str) -> None:
    for weight, numbers in CHECKPOINTS[name].weights().items():
        whole = torch.tensor(numbers)
        for dtype in (torch.bfloat16, torch.float16):
            assert torch.equal(whole.to(dtype).float(), whole), weight


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_read_by_torch(name: str, tmp_path: Path) -> None:
    checkpoint = CHECKPOINTS[name]
    checkpoint.write(tmp_path / "model")
    checkpoint.write(tmp_path / "again")
    written = tmp_path / "model" / "pytorch_model.bin"
    assert written.read_bytes() == (tmp_path / "again" / "pytorch_model.bin").read_bytes()
    assert json.loads((tmp_path / "model" / "config.json").read_text()) == checkpoint.config
    for mapped in (False, True):
        loaded = torch.load(written, weights_only=True, mmap=mapped)
        assert list(loaded) == list(checkpoint.weights())
        for weight, numbers in checkpoint.weights().items():
            assert loaded[weight].dtype == torch.float32
            assert loaded[weight].is_contiguous()
            assert torch.equal(loaded[weight], torch.tensor(numbers)), weight


def test_models_are_written_without_torch_and_without_the_generators_of_others(tmp_path: Path) -> None:
    code = (
        "import pathlib, random, sys; import numpy as np\n"
        "sys.modules['torch'] = None; np.random.seed(0); random.seed(0)\n"
        "before = np.random.get_state()[1].tolist(), random.getstate()\n"
        "from sglang_conformance.journey.checkpoints import LLAMA\n"
        "LLAMA.write(pathlib.Path(sys.argv[1]))\n"
        "assert before == (np.random.get_state()[1].tolist(), random.getstate())\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    CHECKPOINTS["llama"].write(tmp_path / "here")
    assert (tmp_path / "pytorch_model.bin").read_bytes() == (tmp_path / "here" / "pytorch_model.bin").read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_sizes_divide_among_ranks(name: str) -> None:
    config, weights = CHECKPOINTS[name].config, CHECKPOINTS[name].weights()
    for size in ("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size"):
        assert config[size] % 4 == 0
    assert config["num_hidden_layers"] % 2 == 0
    assert config.get("num_local_experts", 4) % 4 == 0
    assert config["num_key_value_heads"] in (2, config["num_attention_heads"])
    assert 200_000 < sum(numbers.size for numbers in weights.values()) < 600_000


def test_another_seed_gives_other_weights_and_another_size_is_a_model_too() -> None:
    other = replace(CHECKPOINTS["llama"], seed=99, layers=3)
    weights = other.weights()
    assert not np.array_equal(
        weights["model.embed_tokens.weight"], CHECKPOINTS["llama"].weights()["model.embed_tokens.weight"]
    )
    assert not np.array_equal(
        weights["model.layers.0.mlp.up_proj.weight"], weights["model.layers.2.mlp.up_proj.weight"]
    )
    assert decoder(other).trace([(1, 2, 3)]).point("model.layers.2.mlp.down_proj").value.shape == (3, 128)


@pytest.mark.parametrize("name", MODELS)
def test_the_numbers_on_the_way_are_neither_large_nor_small(name: str) -> None:
    checkpoint = CHECKPOINTS[name]
    for point in decoder(checkpoint).trace(checkpoint.prompts).points:
        if point.output != "ids":
            assert 0.05 < np.sqrt(np.mean(point.value**2)) < 4.0, point.name


@pytest.mark.parametrize("name", MODELS)
def test_the_tokens_of_the_prompts_are_decided_in_every_type(name: str) -> None:
    """A tied head has smaller margins, and bfloat16 the largest tolerance: together they leave tokens undecided."""
    checkpoint = CHECKPOINTS[name]
    oracle = decoder(checkpoint)
    continued = oracle.continued(checkpoint.prompts, NEW)
    trace = oracle.trace([each.sequence for each in continued])
    assert tuple(len(prompt) for prompt in checkpoint.prompts) == LENGTHS
    for dtype in tolerances.DTYPES:
        allowed = tolerances.along(oracle, trace, dtype)["logits_processor"]
        undecided = [
            tolerances.undecided(each.margins, allowed[span][-NEW:])
            for each, span in zip(continued, trace.batch.spans, strict=True)
        ]
        assert np.any(undecided) == (dtype == "bfloat16" and checkpoint.tied), dtype
    for each in continued:
        assert len(set(each.tokens)) > NEW // 3  # not the same few again and again


def test_no_token_is_between_two_experts() -> None:
    config = MIXTRAL.config
    sequences = np.random.default_rng(0).permuted(np.tile(np.arange(config["vocab_size"]), (4, 1)), axis=1)
    oracle = decoder(MIXTRAL)
    trace = oracle.trace(sequences.reshape(-1, 40).tolist())
    allowed = tolerances.along(oracle, trace, "bfloat16")
    for layer in range(config["num_hidden_layers"]):
        own = f"model.layers.{layer}.block_sparse_moe."
        scores = np.sort(trace.point(own + "gate").value, axis=1)
        assert not tolerances.undecided(scores[:, -2] - scores[:, -3], allowed[own + "gate"]).any()
        chosen = trace.point(own + "topk:ids").value
        assert np.bincount(chosen.ravel()).min() > chosen.size / 8  # every expert has work
