"""How the reference's models are described, found and loaded: folders, formats, dtypes, registered models."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sglang_conformance.journey.checkpoints import LATENT, LLAMA, MIXTRAL, Checkpoint
from sglang_reference import NotCovered

ALONE = SimpleNamespace(is_first_rank=True, is_last_rank=True, rank_in_group=0, world_size=1)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Checkpoint], Path]:
    def written(checkpoint: Checkpoint) -> Path:
        checkpoint.write(tmp_path / checkpoint.name)
        return tmp_path / checkpoint.name

    return written


@pytest.fixture
def srt(install: Any, module: Callable[[str], Any]) -> Any:
    """Modules of the newest release, in a process that is a group by itself."""
    install("0.5.23")
    parallel = module("sglang.srt.runtime_context").get_parallel()
    sizes = dict.fromkeys(("tp_size", "pp_size", "moe_ep_size", "moe_tp_size", "attn_tp_size"), 1)
    parallel.override_permanently(**sizes, pp_group=ALONE, tp_group=ALONE)
    return lambda name: module(f"sglang.srt.{name}")


def loaded(srt: Any, folder: Path, *, device: str = "cpu", load_format: str = "auto", **config: Any) -> Any:
    return srt("model_loader").get_model(
        model_config=srt("configs.model_config").ModelConfig(str(folder), **{"dtype": "float32", **config}),
        load_config=srt("configs.load_config").LoadConfig(load_format=load_format),
        device_config=srt("configs.device_config").DeviceConfig(device),
    )


# What a model is.


def test_a_models_sizes_are_its_configurations(srt: Any, write: Any) -> None:
    configs = srt("configs.model_config")
    llama = configs.ModelConfig(str(write(LLAMA)), context_length=100, dtype="bfloat16")
    assert (llama.context_len, llama.dtype, llama.head_dim) == (100, torch.bfloat16, LLAMA.head)
    assert (llama.get_num_kv_heads(1), llama.get_num_kv_heads(4), llama.get_num_attention_heads(4)) == (2, 1, 2)
    assert llama.attention_arch is configs.AttentionArch.MHA
    assert llama.hf_eos_token_id is None
    latent = configs.ModelConfig(str(write(LATENT)))
    assert latent.attention_arch is configs.AttentionArch.MLA
    assert (latent.kv_lora_rank, latent.qk_rope_head_dim) == (LATENT.latent, LATENT.rotated)
    assert latent.dtype is torch.float16  # of a float32 model, where nobody asks for more
    with pytest.raises(AttributeError) as refused:
        latent.something_of_sglangs  # noqa: B018
    assert type(refused.value).__name__ == "NotCovered"


def test_the_servers_arguments_name_a_model(srt: Any, write: Any) -> None:
    told = SimpleNamespace(
        model_path=str(write(LLAMA)),
        trust_remote_code=False,
        revision=None,
        context_length=None,
        json_model_override_args='{"eos_token_id": [3, 5]}',
        is_embedding=False,
        dtype="float32",
        quantization=None,
    )
    config = srt("configs.model_config").ModelConfig.from_server_args(told)
    assert (config.context_len, config.hf_eos_token_id, config.dtype) == (LLAMA.positions, {3, 5}, torch.float32)


def test_what_does_not_fit_is_told(srt: Any, write: Any, tmp_path: Path) -> None:
    make = srt("configs.model_config").ModelConfig
    with pytest.raises(ValueError, match="context length 600 is greater"):
        make(str(write(LLAMA)), context_length=600)
    with pytest.raises(ValueError, match="float12"):
        make(str(write(LLAMA)), dtype="float12")
    with pytest.raises(NotCovered):
        make(str(write(LLAMA)), is_embedding=True)
    with pytest.raises(OSError, match=r"config\.json"):
        make(str(tmp_path))
    for text, said in (("[", "no JSON"), ("{}", "architectures")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=said):
            make(str(tmp_path))


@pytest.mark.parametrize(("release", "takes"), [("0.5.12", False), ("0.5.13", True)])
def test_an_out_of_tree_device_is_taken_from_the_release_on_that_does(
    install: Any, platform_plugin: Any, module: Callable[[str], Any], release: str, takes: bool
) -> None:
    platform_plugin("meta")  # a type of device that torch knows, and SGLang does not
    install(release)
    devices = module("sglang.srt.configs.device_config")
    if not takes:
        with pytest.raises(RuntimeError, match="meta"):
            devices.DeviceConfig("meta")
        devices.SUPPORTED_DEVICES.append("meta")
    assert devices.DeviceConfig("meta", 1).device == torch.device("meta")


# Weights.


@pytest.mark.parametrize("checkpoint", [LLAMA, MIXTRAL], ids=["llama", "mixtral"])
def test_weights_are_the_files(srt: Any, write: Any, checkpoint: Checkpoint) -> None:
    model, weights = loaded(srt, write(checkpoint)), checkpoint.weights()
    assert not model.training
    layer, name = model.model.layers[1], "model.layers.1."
    q, k, v = (torch.tensor(weights[f"{name}self_attn.{part}_proj.weight"]) for part in "qkv")
    assert torch.equal(layer.self_attn.qkv_proj.weight, torch.cat([q, k, v]))
    assert torch.equal(model.lm_head.weight[: checkpoint.vocabulary], torch.tensor(weights["lm_head.weight"]))
    assert torch.equal(layer.input_layernorm.weight, torch.tensor(weights[f"{name}input_layernorm.weight"]))


def test_weights_that_come_again_are_taken_where_they_are(srt: Any, write: Any) -> None:
    model = loaded(srt, write(LATENT))
    attention = model.model.layers[0].self_attn
    before, address = attention.w_kc.clone(), (attention.w_kc.data_ptr(), attention.w_vc.data_ptr())
    weights = {name: torch.tensor(weight) * 2 for name, weight in LATENT.weights().items()}
    model.load_weights(weights.items())
    assert torch.equal(attention.w_kc, before * 2)
    assert (attention.w_kc.data_ptr(), attention.w_vc.data_ptr()) == address


def test_unknown_weights_are_told_and_those_of_other_stages_are_not(
    srt: Any, write: Any, log: pytest.LogCaptureFixture
) -> None:
    model = loaded(srt, write(LLAMA))
    strange = torch.zeros(1)
    model.load_weights(
        [("model.layers.0.mlp.third_proj.weight", strange), ("model.layers.9.x", strange), ("lm_head.bias", strange)]
    )
    assert [record.args for record in log.records if record.levelname == "WARNING"] == [
        ("model.layers.0.mlp.third_proj.weight",)
    ]


def test_random_weights_are_the_same_each_time(srt: Any, write: Any) -> None:
    folder = write(LATENT)
    (folder / "pytorch_model.bin").unlink()
    one, two = (loaded(srt, folder, load_format="dummy") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert one.model.layers[0].self_attn.w_kc.abs().max() > 0
    with pytest.raises(RuntimeError, match=r"no weights .* pytorch_model\.bin"):
        loaded(srt, folder)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(NotCovered, match="safetensors"):
        loaded(srt, folder)
    with pytest.raises(NotCovered, match="gguf"):
        loaded(srt, folder, load_format="gguf")


def test_a_loader_of_ones_own_is_the_format(srt: Any) -> None:
    class Own:
        def __init__(self, load_config: Any) -> None:
            self.load_config = load_config

    config = srt("configs.load_config").LoadConfig(load_format=Own)
    assert type(srt("model_loader").get_model_loader(config)) is Own


@pytest.mark.parametrize("told", [None, {"quant_method": "fp8", "bits": 8}])
def test_a_model_is_quantised_by_the_class_of_that_name(srt: Any, write: Any, told: dict[str, Any] | None) -> None:
    base, asked = srt("layers.quantization.base_config").QuantizationConfig, []

    class Own(base):  # type: ignore[misc, valid-type]
        def __init__(self, bits: int = 4) -> None:
            super().__init__()
            self.bits = bits

        def get_name(self) -> str:
            return "fp8"

        def get_supported_act_dtypes(self) -> list[torch.dtype]:
            return [torch.float32]

        @classmethod
        def get_min_capability(cls) -> int:
            return 0

        @staticmethod
        def get_config_filenames() -> list[str]:
            return []

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            assert config["hf_config"].hidden_size == LLAMA.hidden
            return cls(config["bits"])

        def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> Any:
            asked.append((self.bits, prefix))
            return None if "attn" in prefix.split(".") else unquantised(prefix)

        def get_scaled_act_names(self) -> list[str]:
            return []

    def unquantised(prefix: str) -> Any:
        name = "UnquantizedEmbeddingMethod" if "lm_head" in prefix else "UnquantizedLinearMethod"
        return getattr(srt("layers.quantization.unquant"), name)()

    srt("layers.quantization").QUANTIZATION_METHODS["fp8"] = Own
    overrides = json.dumps({"quantization_config": told} if told else {})
    loaded(srt, write(LLAMA), quantization=None if told else "fp8", model_override_args=overrides)
    assert {bits for bits, _ in asked} == {8 if told else 4}
    assert {"model.layers.1.mlp.down_proj", "model.layers.0.self_attn.attn", "lm_head"} <= {name for _, name in asked}
    with pytest.raises(ValueError, match=r"float16 .* fp8"):
        loaded(srt, write(LLAMA), quantization="fp8", model_override_args=overrides, dtype="float16")


# Models by name.


@contextmanager
def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (folder / "vendor_models").mkdir()
    (folder / "vendor_models" / "__init__.py").touch()
    (folder / "vendor_models" / "broken.py").write_text("raise RuntimeError('cannot be imported')\n")
    source = "from sglang.srt.models.llama import LlamaForCausalLM as Base\n\n\nclass LlamaForCausalLM(Base): ...\n"
    (folder / "vendor_models" / "better.py").write_text(source + "\n\nEntryClass = LlamaForCausalLM\n")
    monkeypatch.syspath_prepend(folder)
    yield "vendor_models"
    for name in ("vendor_models", "vendor_models.better"):
        sys.modules.pop(name, None)


def test_a_plugins_model_takes_the_place_of_sglangs(
    srt: Any, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = srt("models.registry").ModelRegistry
    assert {*registry.get_supported_archs()} == {"DeepseekV2ForCausalLM", "LlamaForCausalLM", "MixtralForCausalLM"}
    with package(tmp_path, monkeypatch) as name:
        with pytest.raises(ValueError, match="overwrite"):
            registry.register(name)
        registry.register(name, overwrite=True)
        assert type(loaded(srt, write(LLAMA))).__module__ == "vendor_models.better"
        with pytest.raises(RuntimeError, match="cannot be imported"):
            registry.register(name, overwrite=True, strict=True)


def test_a_package_of_the_environment_comes_before_sglangs(
    install: Any, module: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("0.5.11")
    with package(tmp_path, monkeypatch) as name:
        monkeypatch.setenv("SGLANG_EXTERNAL_MODEL_PACKAGE", name)
        registry = module("sglang.srt.models.registry").ModelRegistry
        model, _ = registry.resolve_model_cls(["Strange", "LlamaForCausalLM"])
        assert model.__module__ == "vendor_models.better"
        assert "MixtralForCausalLM" in registry.models


def test_an_unknown_architecture_is_told_with_the_known_ones(srt: Any, write: Any) -> None:
    folder = write(LLAMA)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "architectures": ["Strange"]}))
    with pytest.raises(ValueError, match=r"Strange .* LlamaForCausalLM"):
        loaded(srt, folder)


def test_a_layer_with_experts_beside_latents_is_refused(srt: Any, write: Any) -> None:
    with pytest.raises(NotCovered, match="experts"):
        loaded(srt, write(LATENT), model_override_args='{"first_k_dense_replace": 1}')


@pytest.mark.parametrize("release", ["0.5.21", "0.5.22"])
def test_layers_are_made_by_the_stage(install: Any, module: Callable[[str], Any], release: str) -> None:
    install(release)
    common = module("sglang.srt.utils.common")
    names: list[str] = []

    def make(idx: int, prefix: str) -> torch.nn.Module:
        names.append(prefix)
        return torch.nn.Linear(1, 1)

    layers, first, last = common.make_layers(5, make, pp_rank=1, pp_size=2, prefix="model.layers")
    assert names == [f"model.layers.{index}" for index in range(first, last)]
    assert [type(layer).__name__ == "PPMissingLayer" for layer in layers] == [
        not first <= index < last for index in range(5)
    ]
    assert len(common.make_layers(3, make)) == 3
