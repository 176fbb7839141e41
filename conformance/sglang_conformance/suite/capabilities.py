"""CAP: what the platform declares it can do, and whether it can.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib.util
import pkgutil
import string
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from . import expect
from .aids.construction import declares_graphs
from .aids.resolution import start_device
from .aids.uncovered import maker_of
from .declare import in_probe, requirement
from .drawing import texts

# The names that SGLang 0.5.23 passes (srt/speculative/spec_info.py), and any other: algorithms can be registered.
ALGORITHMS = ("DFLASH", "EAGLE", "EAGLE3", "STANDALONE", "NGRAM", "DSPARK", "UNO", "FROZEN_KV_MTP")
algorithms = st.sampled_from(ALGORITHMS) | texts(string.ascii_uppercase + string.digits, least=1, most=12)
attention_backends = st.sampled_from(["triton", "torch_native", "flashinfer", "fa3", "ascend", "intel_xpu"])

_CAPABILITIES = "platform.capabilities"


@requirement("CAP-001")
@in_probe
def test_capabilities_are_the_hosts_own_struct(platform: Any) -> None:
    from sglang.srt.platforms.interface import PlatformCapabilities

    found = platform.capabilities
    expect.that(
        isinstance(found, PlatformCapabilities),
        expected="an instance of sglang.srt.platforms.interface.PlatformCapabilities",
        seen=f"{expect.show(found)} ({type(found).__name__})",
        call=_CAPABILITIES,
        where=expect.place_of(platform, "capabilities"),
    )


@requirement("CAP-002")
@in_probe
def test_each_capability_is_true_or_false(platform: Any, contract: Contract) -> None:
    for name in contract.capabilities:
        value = getattr(platform.capabilities, name)
        expect.that(
            isinstance(value, bool),
            expected="True or False",
            seen=f"{expect.show(value)} ({type(value).__name__})",
            call=f"{_CAPABILITIES}.{name}",
            where=expect.place_of(platform, "capabilities"),
            cause="SGLang tests it for truth only, so 'no', a function or any other object counts as yes",
        )


@requirement("CAP-003")
@in_probe
def test_capabilities_stay_what_they_are(platform: Any, contract: Contract) -> None:
    before = {name: getattr(platform.capabilities, name) for name in contract.capabilities}
    start_device(platform)
    for name, value in before.items():
        expect.equal(
            getattr(platform.capabilities, name),
            value,
            call=f"{_CAPABILITIES}.{name}, read again after init_backend()",
            where=expect.place_of(platform, "capabilities"),
        )


@requirement("CAP-004")
@in_probe
def test_declared_graph_capture_can_be_asked_of_the_device_module(platform: Any, contract: Contract) -> None:
    import torch

    if not declares_graphs(platform, contract):
        raise expect.Declined("the platform declares no graph capture")
    if platform.device_type == "cpu":
        return  # SGLang compiles on a CPU, and never asks
    start_device(platform)
    kind = platform.device_type
    module = expect.attempt(f"torch.get_device_module({kind!r})", lambda: torch.get_device_module(kind)).value
    call = f"torch.get_device_module({kind!r}).is_current_stream_capturing()"
    capturing = expect.attempt(
        call,
        lambda: module.is_current_stream_capturing(),
        where=expect.place_of(platform, "capabilities" if contract.capabilities else "support_cuda_graph"),
        cause="graph capture is declared, and the device's torch module cannot tell whether a capture is running",
    )
    expect.equal(capturing, False, cause="nothing is being captured now")


@requirement("CAP-005")
@in_probe
def test_declared_graph_capture_has_a_runner(platform: Any, contract: Contract) -> None:
    if not declares_graphs(platform, contract):
        raise expect.Declined("the platform declares no graph capture")
    maker_of(platform, "get_graph_runner_cls", cause="graph capture is declared, and SGLang asks for its runner")


@requirement("CAP-006")
@in_probe
def test_declared_piecewise_graphs_have_a_backend(platform: Any) -> None:
    if not platform.capabilities.piecewise_graph:
        raise expect.Declined("capabilities.piecewise_graph is False")
    maker_of(platform, "get_piecewise_backend_cls", cause="capabilities.piecewise_graph is declared")


@requirement("CAP-007")
@in_probe
def test_answered_piecewise_graphs_have_a_backend(platform: Any) -> None:
    if not expect.ask(platform, "support_piecewise_cuda_graph").value:
        raise expect.Declined("support_piecewise_cuda_graph() is False")
    maker_of(platform, "get_piecewise_backend_cls", cause="support_piecewise_cuda_graph() is True")


@requirement("CAP-008")
@in_probe
def test_declared_triton_is_installed(platform: Any) -> None:
    if not platform.capabilities.supports_triton:
        raise expect.Declined("capabilities.supports_triton is False")
    # A stand-in for the package, put where it is imported from, counts: find_spec refuses one without a spec.
    expect.that(
        "triton" in sys.modules or importlib.util.find_spec("triton") is not None,
        expected="an installed package 'triton'",
        seen="none",
        call=f"{_CAPABILITIES}.supports_triton",
        where=expect.place_of(platform, "capabilities"),
    )


@requirement("CAP-015")
@in_probe
def test_declared_pynccl_has_a_device_to_bind_to(platform: Any) -> None:
    if not platform.capabilities.supports_pynccl:
        raise expect.Declined("capabilities.supports_pynccl is False")
    start_device(platform)
    answer = expect.ask(platform, "get_group_coordinator_device", 0)
    expect.that(
        str(answer.value).partition(":")[0] != "cpu",
        expected="an accelerator: capabilities.supports_pynccl is declared, and PyNccl binds to this device",
        seen=expect.show(answer.value),
        answer=answer,
    )


@requirement("CAP-016")
@in_probe
def test_declared_hicache_kernels_are_installed(platform: Any) -> None:
    if not platform.capabilities.hicache_device_kernels:
        raise expect.Declined("capabilities.hicache_device_kernels is False")
    installed = {module.name for module in pkgutil.iter_modules()} | set(sys.modules)
    expect.that(
        any(name.startswith("sgl_kernel") for name in installed),
        expected="an installed package 'sgl_kernel', or a vendor's edition of it, as 'sgl_kernel_npu'",
        seen="none",
        call=f"{_CAPABILITIES}.hicache_device_kernels",
        where=expect.place_of(platform, "capabilities"),
    )


@requirement("CAP-009")
@in_probe
def test_graph_flags_are_true_or_false(platform: Any) -> None:
    for member in ("support_cuda_graph", "support_piecewise_cuda_graph"):
        _expect_yes_or_no(expect.ask(platform, member))


@requirement("CAP-010")
@in_probe
@given(algorithm=algorithms)
def test_every_speculative_algorithm_gets_a_yes_or_a_no(platform: Any, algorithm: str) -> None:
    answer = expect.ask(platform, "supports_speculative_algorithm", algorithm)
    _expect_yes_or_no(answer)
    again = expect.ask(platform, "supports_speculative_algorithm", algorithm)
    expect.equal(again, answer.value, cause="asked twice, it answers differently")


@requirement("CAP-011")
@in_probe
@given(backend=attention_backends)
def test_every_draft_attention_backend_gets_a_yes_or_a_no(platform: Any, backend: str) -> None:
    _expect_yes_or_no(expect.ask(platform, "supports_speculative_draft_attention_backend", "DFLASH", backend))


@requirement("CAP-012")
@in_probe
def test_default_draft_attention_backend_is_a_supported_one(platform: Any) -> None:
    if not expect.ask(platform, "supports_speculative_algorithm", "DFLASH").value:
        raise expect.Declined("supports_speculative_algorithm('DFLASH') is False")
    default = expect.ask(platform, "get_default_speculative_draft_attention_backend", "DFLASH")
    expect.that(
        isinstance(default.value, str) and default.value,
        expected="the name of an attention backend",
        seen=expect.show(default.value),
        answer=default,
    )
    supported = expect.ask(platform, "supports_speculative_draft_attention_backend", "DFLASH", default.value)
    expect.that(
        supported.value,
        expected=f"True for {default.value!r}, the platform's own default",
        seen=expect.show(supported.value),
        answer=supported,
    )


@requirement("CAP-013")
@in_probe
def test_mamba_extra_buffer_is_true_or_false(platform: Any) -> None:
    _expect_yes_or_no(expect.ask(platform, "support_mamba_cache_extra_buffer"))


@requirement("CAP-014")
@in_probe
def test_supported_quantization_is_a_list_of_names(platform: Any) -> None:
    methods = platform.supported_quantization
    expect.that(
        isinstance(methods, list) and all(isinstance(name, str) and name for name in methods),
        expected="a list of names, as ['fp8', 'awq']; an empty one for none",
        seen=expect.show(methods),
        call="platform.supported_quantization",
        where=expect.place_of(platform, "supported_quantization"),
    )


def _expect_yes_or_no(answer: expect.Answer) -> None:
    expect.that(
        isinstance(answer.value, bool),
        expected="True or False",
        seen=f"{expect.show(answer.value)} ({type(answer.value).__name__})",
        answer=answer,
    )
