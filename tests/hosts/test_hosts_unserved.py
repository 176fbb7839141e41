"""What is not served by the real SGLang for want of something of its own: nothing of a plugin's is excused by it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sglang_conformance.hosts import unserved
from sglang_conformance.hosts.serving import NotServed

TORCH_NATIVE = "sglang.srt.layers.attention.torch_native_backend"
UNQUANTIZED = "sglang.srt.layers.quantization.unquant"
NATIVE = "sglang.srt.layers.moe.fused_moe_native"


def named(module: str, name: str, *bases: type) -> type:
    return type(name, bases, {"__module__": module})


ATTENTION = named(TORCH_NATIVE, "TorchNativeAttnBackend")


class Operator:
    """SGLang's experts, as the operator that it has chosen what runs for, or will at the first call."""

    def __init__(self, function: Callable[..., Any], *, chosen: bool = True) -> None:
        runs = function.__get__(self)
        self._forward_method = runs if chosen else None
        self._resolve_forward_method = lambda: runs


def in_module(module: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__module__ = module
    return function


def in_torch(self: Any, layer: Any) -> Any:
    from sglang.srt.layers.moe.fused_moe_native import moe_forward_native

    return moe_forward_native(layer)


def by_kernels(self: Any, layer: Any) -> Any:
    return layer


def vendors(self: Any, layer: Any) -> Any:
    from sglang.srt.layers.moe.fused_moe_native import moe_forward_native

    return moe_forward_native(layer)


in_module(UNQUANTIZED, in_torch)
in_module(UNQUANTIZED, by_kernels)
in_module("acme.experts", vendors)


def server(*layers: Any, attention: Any = None, captured: tuple[int, ...] = ()) -> Any:
    runner = SimpleNamespace(attn_backend=attention, model=SimpleNamespace(modules=lambda: iter(layers)))
    return SimpleNamespace(runner=runner, captured=captured)


def experts(function: Callable[..., Any], **attributes: Any) -> Any:
    return SimpleNamespace(quant_method=Operator(function), **attributes)


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Any]:
    def asked(architecture: str = "LlamaForCausalLM", **given: Any) -> Any:
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        return SimpleNamespace(**{"model_path": str(tmp_path), "ep_size": 1, "disable_cuda_graph": True, **given})

    return asked


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """SGLang before or since capabilities, a platform with graphs or without, Triton with a driver or none."""

    def release(*, knows: bool, driver: bool = False, captures: bool = True) -> None:
        platforms = ModuleType("sglang.srt.platforms")
        platforms.current_platform = SimpleNamespace(support_cuda_graph=lambda: captures)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, platforms.__name__, platforms)
        interface = ModuleType("sglang.srt.platforms.interface")
        if knows:
            interface.PlatformCapabilities = object  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, interface.__name__, interface)
        monkeypatch.setattr(unserved, "obstacle", lambda *modules: "")
        monkeypatch.setattr(unserved, "triton_runs", lambda: driver)

    return release


def test_latent_attention_by_sglangs_attention_in_torch_is_not_served(asked: Any) -> None:
    with pytest.raises(NotServed, match="torch_native"):
        unserved.must_serve(server(attention=ATTENTION()), asked("DeepseekV2ForCausalLM"))


@pytest.mark.parametrize(
    ("attention", "architecture"),
    [
        (ATTENTION, "LlamaForCausalLM"),
        (named("acme.attention", "TorchNativeAttnBackend"), "DeepseekV2ForCausalLM"),
        (named("acme.attention", "Attention", ATTENTION), "DeepseekV2ForCausalLM"),
        (named(TORCH_NATIVE, "Another"), "DeepseekV2ForCausalLM"),
    ],
)
def test_other_attention_is_judged(asked: Any, attention: type, architecture: str) -> None:
    unserved.must_serve(server(attention=attention()), asked(architecture))


def test_graphs_without_triton_are_not_served_up_to_0_5_21(asked: Any, release: Any) -> None:
    release(knows=False)
    with pytest.raises(NotServed, match="Triton has no driver"):
        unserved.must_be_able(asked(disable_cuda_graph=False))


@pytest.mark.parametrize(
    ("eager", "release_is"),
    [
        (True, {"knows": False}),
        (False, {"knows": False, "driver": True}),
        (False, {"knows": False, "captures": False}),
        (False, {"knows": True}),
    ],
)
def test_other_ways_to_serve_are_judged(asked: Any, release: Any, eager: bool, release_is: Mapping[str, bool]) -> None:
    release(**release_is)
    unserved.must_be_able(asked(disable_cuda_graph=eager))


@pytest.mark.parametrize("chosen", [True, False])
@pytest.mark.parametrize(("ep", "captured"), [(2, ()), (1, (2, 4))])
def test_sglangs_experts_in_torch_are_not_served(asked: Any, ep: int, captured: Any, chosen: bool) -> None:
    layer = SimpleNamespace(quant_method=Operator(in_torch, chosen=chosen))
    with pytest.raises(NotServed, match="experts in torch"):
        unserved.must_serve(server(SimpleNamespace(), layer, captured=captured), asked(ep_size=ep))


@pytest.mark.parametrize(
    ("layer", "ep"),
    [
        (experts(in_torch), 1),  # eagerly, each rank with a part of every expert
        (experts(by_kernels), 2),
        (experts(vendors), 2),
        (experts(in_torch, use_intel_amx_backend=True), 2),
        (SimpleNamespace(quant_method=None), 2),
        (SimpleNamespace(), 2),
    ],
)
def test_other_experts_are_judged(asked: Any, layer: Any, ep: int) -> None:
    unserved.must_serve(server(layer), asked(ep_size=ep))


COUNTS = """
def moe_forward_native(counts, fails):
    if fails == "counting":
        counts.sum()
    return counts.cpu().numpy()
"""


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """SGLang's module of experts in torch, as far as where it copies to the host."""
    file = tmp_path / "sglang" / "srt" / "layers" / "moe" / "fused_moe_native.py"
    file.parent.mkdir(parents=True)
    file.write_text(COUNTS)
    spec = importlib.util.spec_from_file_location(NATIVE, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, NATIVE, module)
    return module


class Counts:
    """A tensor of a device that captures: nothing of it can be copied to the host meanwhile."""

    def cpu(self) -> Any:
        raise RuntimeError("not while a graph is captured")

    def sum(self) -> Any:
        raise RuntimeError("this sum is wrong")


def raised(action: Callable[[], Any], wrap: bool = False) -> BaseException:
    try:
        try:
            action()
        except Exception as error:
            if wrap:
                raise RuntimeError("Capture failed") from error
            raise
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("wrap", [True, False])
def test_graph_that_cannot_hold_a_copy_to_the_host_is_not_made(asked: Any, native: Any, wrap: bool) -> None:
    error = raised(lambda: native.moe_forward_native(Counts(), ""), wrap)
    with pytest.raises(NotServed, match="experts in torch"):
        unserved.must_capture(error, asked(disable_cuda_graph=False))


def test_other_errors_while_graphs_are_made_are_the_platforms(asked: Any, native: Any) -> None:
    with_graphs = asked(disable_cuda_graph=False)
    unserved.must_capture(raised(lambda: native.moe_forward_native(Counts(), "counting")), with_graphs)
    unserved.must_capture(raised(Counts().cpu), with_graphs)
    unserved.must_capture(raised(lambda: native.moe_forward_native(Counts(), "")), asked())


def test_file_of_that_name_elsewhere_is_not_sglangs(
    asked: Any, native: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = raised(lambda: native.moe_forward_native(Counts(), ""))
    other = ModuleType(NATIVE)
    other.__file__ = str(tmp_path / "other" / "fused_moe_native.py")
    monkeypatch.setitem(sys.modules, NATIVE, other)
    unserved.must_capture(error, asked(disable_cuda_graph=False))
