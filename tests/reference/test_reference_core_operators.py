"""Operators of the reference: what of them a platform's dispatch key runs, and their numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sglang_reference._releases import within

RELEASES = ["0.5.11", "0.5.17", "0.5.18", "0.5.23"]
EAGER, LAZY = RELEASES[:2], RELEASES[2:]
SILU, NORM = "sglang.srt.layers.activation", "sglang.srt.layers.layernorm"
ASKED = """
asked = []

def key(self):
    asked.append(1)
    return "acme"

Platform.get_dispatch_key_name = key
"""

Module = Callable[[str], Any]


@pytest.fixture
def acme(platform_plugin: Any, install: Any, module: Module) -> Callable[[str], list[int]]:
    """Install a release beside a platform with the dispatch key ``acme``; returns how often it was asked."""

    def installed(release: str) -> list[int]:
        platform_plugin("acme", ASKED)
        install(release)
        assert module("sglang.srt.platforms").current_platform.is_out_of_tree()
        asked: list[int] = module("vendor_acme").asked
        return asked

    return installed


def base(module: Module, release: str) -> Any:
    if within(release, "0.5.18"):
        return module("sglang.kernels.fused_op").BaseFusedOp
    return module("sglang.srt.layers.utils.multi_platform").MultiPlatformOp


@pytest.mark.parametrize("release", RELEASES)
def test_what_is_registered_for_the_key_runs_and_only_for_that_very_class(
    acme: Any, module: Module, release: str
) -> None:
    acme(release)
    kind = module(SILU).SiluAndMul
    base(module, release).register_oot_forward(kind, lambda self, x: (self, x), "acme")
    x = torch.randn(3, 4)
    operator = kind()
    assert operator(x) == (operator, x)
    assert type("Other", (kind,), {})()(x).shape == (3, 2)


@pytest.mark.parametrize("release", RELEASES)
def test_the_method_of_the_key_runs_and_the_native_one_where_there_is_none(
    acme: Any, module: Module, release: str
) -> None:
    acme(release)
    kind = module(SILU).SiluAndMul
    x = torch.randn(3, 4)
    assert type("Own", (kind,), {"forward_acme": lambda self, x: "own"})()(x) == "own"
    assert torch.equal(kind()(x), kind().forward_native(x))
    other = type("Other", (kind,), {"forward_cuda": lambda self, x: "cuda"})()
    assert other(x).shape == (3, 2)


@pytest.mark.parametrize("release", EAGER)
def test_each_operator_asks_for_the_key_while_it_is_made(acme: Any, module: Module, release: str) -> None:
    asked = acme(release)
    made = [module(SILU).SiluAndMul(), module(NORM).RMSNorm(4)]
    assert len(asked) == 2
    made[0](torch.ones(1, 2))
    assert len(asked) == 2


@pytest.mark.parametrize("release", LAZY)
def test_the_first_call_of_any_operator_asks_for_the_key(acme: Any, module: Module, release: str) -> None:
    asked = acme(release)
    made = [module(SILU).SiluAndMul(), module(SILU).SiluAndMul()]
    assert not asked
    for operator in made:
        operator(torch.ones(1, 2))
    assert len(asked) == 1


@pytest.mark.parametrize("release", RELEASES)
def test_while_a_model_is_compiled_the_native_method_runs(acme: Any, module: Module, release: str) -> None:
    acme(release)
    kind = type("Own", (module(SILU).SiluAndMul,), {"forward_acme": lambda self, x: "own"})
    operator, x = kind(), torch.ones(1, 2)
    operator.enter_torch_compile(8)
    operator.enter_torch_compile(8)
    assert operator.is_torch_compile
    assert operator(x).shape == (1, 1)
    operator.leave_torch_compile()
    operator.leave_torch_compile()
    assert operator(x) == "own"


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("tokens", "runs"), [(1, "native"), (8, "own")])
def test_the_choice_of_experts_is_compiled_for_one_token_alone(
    acme: Any, module: Module, release: str, tokens: int, runs: str
) -> None:
    acme(release)
    own = {"forward_acme": lambda self, x, y: "own", "forward_native": lambda self, x, y: "native"}
    operator = type("TopKOfOurs", (module("sglang.srt.layers.moe.topk").TopK,), own)(top_k=2, layer_id=0)
    operator.enter_torch_compile(tokens)
    assert operator(1, 2) == runs
    operator.leave_torch_compile()
    assert operator(1, 2) == "own"


@pytest.mark.parametrize("release", RELEASES)
def test_without_a_plugin_plain_torch_runs(install: Any, module: Module, release: str) -> None:
    install(release)
    x = torch.randn(3, 4)
    operator = module(SILU).SiluAndMul()
    assert torch.equal(operator(x), operator.forward_native(x))


@pytest.mark.parametrize("release", RELEASES)
def test_the_earlier_name_warns_from_the_release_on_in_which_it_is_an_alias(
    install: Any, module: Module, release: str
) -> None:
    install(release)
    kind = module("sglang.srt.layers.utils.multi_platform").MultiPlatformOp
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        own = type("Own", (kind,), {"forward_native": lambda self: "native"})
    assert len(warned) == (1 if within(release, "0.5.18") else 0)
    assert issubclass(kind, base(module, release))
    assert own().forward_cpu() == own().forward_npu() == "native"
    with pytest.raises(NotImplementedError):
        own().forward_hip()


def test_an_implementation_can_be_forced(install: Any, module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_FORCE_FUSED_OP_BACKEND", "triton")
    install()
    kernels = module("sglang.kernels")
    kind = type("Own", (module(SILU).SiluAndMul,), {"forward_triton": lambda self, x: "triton"})
    x = torch.ones(1, 2)
    assert kind()(x) == "triton"
    assert module(SILU).SiluAndMul()(x).shape == (1, 1)  # which has none, and is warned of
    kernels.set_fused_op_backend(None)
    assert kind()(x).shape == (1, 1)
    assert kind()(x, backend=kernels.KernelBackend.TRITON) == "triton"
    with pytest.raises(NotImplementedError, match="jit"):
        kind()(x, backend=kernels.KernelBackend.JIT)


@pytest.mark.parametrize("release", ["0.5.16", "0.5.17"])
def test_the_operator_class_before_operators_were_made_of_it(acme: Any, module: Module, release: str) -> None:
    asked = acme(release)
    kernels = module("sglang.kernels")
    own = type(
        "Own",
        (kernels.BaseFusedOp,),
        {"forward_native": lambda self, x: x, "forward_triton": lambda self, x: x + 1, "forward_acme": None},
    )
    operator = own()
    assert not isinstance(operator, torch.nn.Module)
    assert operator(1) == 2
    assert operator(1, backend=kernels.KernelBackend.TORCH) == 1
    with pytest.raises(NotImplementedError, match="jit"):
        operator(1, backend=kernels.KernelBackend.JIT)
    kernels.set_fused_op_backend(kernels.KernelBackend.TORCH)
    assert operator(1) == 1
    assert not asked
    assert kernels.BaseFusedOp.__module__ == "sglang.kernels.fused_op"


def wide(x: torch.Tensor) -> np.ndarray[Any, Any]:
    return x.to(torch.float64).numpy()


def normalised(x: np.ndarray[Any, Any], weight: np.ndarray[Any, Any], eps: float) -> np.ndarray[Any, Any]:
    whole: np.ndarray[Any, Any] = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight
    return whole


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_the_norm(install: Any, module: Module, release: str, dtype: torch.dtype, near: float) -> None:
    install(release)
    norm = module(NORM).RMSNorm(16, eps=1e-5)
    norm.weight.data.copy_(torch.rand(16))
    x, residual = torch.randn(2, 5, 16).to(dtype)
    with torch.no_grad():
        alone, (both, kept) = norm(x), norm(x, residual)
    weight = wide(norm.weight.data)
    np.testing.assert_allclose(wide(alone), normalised(wide(x), weight, 1e-5), rtol=near, atol=near)
    total = wide(x) + wide(residual)
    np.testing.assert_allclose(wide(kept), total, rtol=near, atol=near)
    np.testing.assert_allclose(wide(both), normalised(total, weight, 1e-5), rtol=near, atol=near)
    assert alone.dtype == both.dtype == kept.dtype == dtype
    with pytest.raises(ValueError, match="16 wide"):
        norm(torch.ones(2, 8))


def test_the_gated_activation(install: Any, module: Module) -> None:
    install()
    x = torch.randn(3, 8)
    gate, up = wide(x)[:, :4], wide(x)[:, 4:]
    np.testing.assert_allclose(wide(module(SILU).SiluAndMul()(x)), gate / (1 + np.exp(-gate)) * up, atol=1e-6)


@pytest.mark.parametrize(
    ("release", "neox", "head", "turned"),
    [("0.5.11", True, 8, 8), ("0.5.11", False, 12, 8), ("0.5.23", False, 8, 8), ("0.5.23", True, 12, 8)],
)
def test_rotation(install: Any, module: Module, release: str, neox: bool, head: int, turned: int) -> None:
    install(release)
    rope = module("sglang.srt.layers.rotary_embedding").get_rope(head, turned, 64, 10000, neox)
    positions = torch.tensor([0, 1, 5, 63])
    query, key = torch.randn(4, 2 * head), torch.randn(4, head)
    rotated = rope(positions, query, key)
    for given, got, heads in ((query, rotated[0], 2), (key, rotated[1], 1)):
        assert got.shape == given.shape
        for token, position in enumerate(positions.tolist()):
            for number in range(heads):
                vector = wide(given)[token, number * head : (number + 1) * head]
                expected = turn(vector, position, turned, neox)
                np.testing.assert_allclose(wide(got)[token, number * head : (number + 1) * head], expected, atol=1e-5)
    assert module("sglang.srt.layers.rotary_embedding").get_rope(head, turned, 64, 10000, neox) is rope


def turn(vector: Any, position: int, width: int, neox: bool) -> list[float]:
    """A head's vector, rotated pair by pair with the angles as they are defined."""
    result = list(vector)
    for pair in range(width // 2):
        first, second = (pair, pair + width // 2) if neox else (2 * pair, 2 * pair + 1)
        angle = position / 10000 ** (2 * pair / width)
        result[first] = vector[first] * math.cos(angle) - vector[second] * math.sin(angle)
        result[second] = vector[second] * math.cos(angle) + vector[first] * math.sin(angle)
    return result


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_the_choice_of_experts(install: Any, module: Module, release: str, renormalise: bool) -> None:
    install(release)
    operator = module("sglang.srt.layers.moe.topk").TopK(top_k=2, layer_id=0, renormalize=renormalise)
    logits = torch.randn(6, 5)
    chosen = operator(torch.randn(6, 3), logits, num_token_non_padded=torch.tensor(4))
    scores = np.exp(wide(logits))
    scores /= scores.sum(-1, keepdims=True)
    order = np.argsort(-scores, axis=-1)[:, :2]
    weights = np.take_along_axis(scores, order, -1)
    if renormalise:
        weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(wide(chosen.topk_weights), weights, atol=1e-6)
    assert chosen.topk_ids[:4].tolist() == order[:4].tolist()
    assert chosen.topk_ids[4:].tolist() == [[-1, -1]] * 2
    assert chosen.topk_weights.dtype == torch.float32
    assert chosen.topk_ids.dtype == torch.int32


def test_what_is_not_served_is_refused(install: Any, module: Module) -> None:
    import sglang_reference

    install()
    with pytest.raises(sglang_reference.NotCovered, match="use_grouped_topk"):
        module("sglang.srt.layers.moe.topk").TopK(top_k=2, layer_id=0, use_grouped_topk=True)
    with pytest.raises(sglang_reference.NotCovered, match="yarn"):
        module("sglang.srt.layers.rotary_embedding").get_rope(8, 8, 64, 10000, rope_scaling={"rope_type": "yarn"})
    with pytest.raises(AttributeError, match=r"does not cover .*RMSNorm\.fuse_input_quant"):
        _ = module(NORM).RMSNorm(8).fuse_input_quant
    assert not hasattr(module(NORM).RMSNorm(8), "_anything")
