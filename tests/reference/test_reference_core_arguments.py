"""Server arguments: resolved as each release does, with the platform's part in them."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

RELEASES = ["0.5.11", "0.5.13", "0.5.14", "0.5.16", "0.5.18", "0.5.19", "0.5.20", "0.5.21", "0.5.22", "0.5.23"]

DEFAULTS = """
ASKED = []

class Platform(SRTPlatform):
    _enum = PlatformEnum.OOT
    device_name = "acme"
    device_type = "acme"
    memory = 24 << 30
    pieces = False

    def apply_server_args_defaults(self, server_args):
        ASKED.append("defaults")
        if server_args.max_running_requests is None:
            server_args.max_running_requests = 7
        server_args.not_a_field = 1

    def get_default_attention_backend(self):
        ASKED.append("attention")
        return "acme_attention"

    def get_device_total_memory(self, device_id=0):
        return self.memory

    def get_device(self, device_id=0):
        return "acme" if device_id is None else f"acme:{device_id}"

    def support_piecewise_cuda_graph(self):
        ASKED.append("pieces")
        return self.pieces

    def supports_speculative_algorithm(self, algorithm):
        ASKED.append(algorithm)
        return algorithm == "DFLASH"

    def supports_speculative_draft_attention_backend(self, algorithm, backend):
        return backend == "acme_draft"

    def get_default_speculative_draft_attention_backend(self, algorithm):
        return "acme_draft"
"""


class ModelConfig:
    def __init__(self, arch: str) -> None:
        self.attention_arch = arch


@pytest.fixture
def arguments(install: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The module of the release, with an out-of-tree platform and a stand-in for the model's configuration."""
    configs = types.ModuleType("sglang.srt.configs.model_config")
    arch = types.SimpleNamespace(MLA="mla", MHA="mha")
    kind = types.SimpleNamespace(from_server_args=lambda arguments: ModelConfig("mha"))
    vars(configs).update(AttentionArch=arch, ModelConfig=kind)

    def made(release: str) -> Any:
        platform_plugin("acme", DEFAULTS)
        monkeypatch.setenv("SGLANG_PLATFORM", "acme")
        install(release)
        import sglang.srt.server_args as module

        for name in ("sglang.srt.configs", "sglang.srt.configs.model_config"):
            monkeypatch.setitem(sys.modules, name, configs)
        return module

    return made


def resolved(module: Any, **given: Any) -> Any:
    from sglang.srt._arguments.resolving import settled

    args = module.ServerArgs("somewhere", device="acme", **given)
    if hasattr(args, "resolve_once"):
        args.resolve_once()
    return settled(args)


def asked() -> list[str]:
    import vendor_acme  # type: ignore[import-not-found]

    return list(vendor_acme.ASKED)


@pytest.mark.parametrize("release", RELEASES)
def test_platform_chooses_what_the_user_left_open(arguments: Callable[..., Any], release: str) -> None:
    module = arguments(release)
    values = resolved(module)
    assert values.max_running_requests == 7
    assert values.attention_backend == "acme_attention"
    assert values.page_size == 1
    assert values.sampling_backend == "pytorch"
    assert asked()[:1] == (["defaults"] if release in ("0.5.11", "0.5.13", "0.5.22", "0.5.23") else ["pieces"])
    assert asked().count("defaults") == asked().count("attention") == 1
    assert asked()[-1] == "attention"


@pytest.mark.parametrize("release", RELEASES)
def test_the_users_choice_stays(arguments: Callable[..., Any], release: str) -> None:
    values = resolved(arguments(release), max_running_requests=3, attention_backend="mine", page_size=16)
    assert (values.max_running_requests, values.attention_backend, values.page_size) == (3, "mine", 16)
    assert "attention" not in asked()


@pytest.mark.parametrize("release", RELEASES)
def test_object_keeps_what_the_user_gave_from_0_5_20_on(arguments: Callable[..., Any], release: str) -> None:
    module = arguments(release)
    args = module.ServerArgs("somewhere", device="acme")
    later = release in ("0.5.19", "0.5.20", "0.5.21", "0.5.22", "0.5.23")
    assert (args.attention_backend is None) == later
    if later:
        assert not asked()
        args.resolve_once()
        args.resolve_once()
        assert asked().count("defaults") == 1
        assert args.attention_backend is None
        assert args.max_running_requests == (7 if release == "0.5.19" else None)
        assert args._raw_input["max_running_requests"] is None
        assert hasattr(args, "not_a_field") == (release == "0.5.19")
    else:
        assert args.max_running_requests == 7


@pytest.mark.parametrize("release", ["0.5.19", "0.5.23"])
def test_arguments_are_sealed_once_resolved(arguments: Callable[..., Any], release: str) -> None:
    args = arguments(release).ServerArgs("somewhere", device="acme")
    args.page_size = 4
    args.resolve_once()
    with pytest.raises(AttributeError, match="assigned after resolution"):
        args.page_size = 8
    again = pickle.loads(pickle.dumps(args))
    assert again.page_size == 4
    assert again._resolution_finished


def test_failed_resolution_is_not_repeated(arguments: Callable[..., Any]) -> None:
    args = arguments("0.5.23").ServerArgs("somewhere", device="acme", cuda_graph_backend_decode="magic")
    with pytest.raises(ValueError, match="'magic' is none of"):
        args.resolve_once()
    with pytest.raises(RuntimeError, match="has failed before"):
        args.resolve_once()


@pytest.mark.parametrize("release", RELEASES)
def test_batches_to_capture_follow_the_device(arguments: Callable[..., Any], release: str) -> None:
    from sglang_reference._releases import within

    module = arguments(release)
    values = resolved(module, max_running_requests=1000)
    from sglang.srt._arguments import capture

    most = 48 if within(release, "0.5.20") else 24
    sizes = capture.decode_sizes(values)
    assert sizes[:5] == [1, 2, 4, 8, 12]
    assert sizes[-1] == most
    assert capture.captures_decode(values)
    assert not capture.captures_prefill(values)
    assert values.chunked_prefill_size == (4096 if within(release, "0.5.20") else 2048)
    assert 0 < values.mem_fraction_static < 1


@pytest.mark.parametrize("release", RELEASES)
def test_torch_native_attention_is_not_captured(arguments: Callable[..., Any], release: str) -> None:
    module = arguments(release)
    values = resolved(module, attention_backend="torch_native")
    from sglang.srt._arguments import capture

    assert not capture.captures_decode(values)


@pytest.mark.parametrize("release", ["0.5.11", "0.5.13"])
def test_users_graph_flags(arguments: Callable[..., Any], release: str) -> None:
    values = resolved(arguments(release), cuda_graph_bs=[1, 6])
    assert (values.cuda_graph_bs, values.cuda_graph_max_bs) == ([1, 6], 6)
    assert asked().count("pieces") == 1


@pytest.mark.parametrize("release", ["0.5.14", "0.5.19", "0.5.23"])
def test_users_graph_settings_are_locked(arguments: Callable[..., Any], release: str) -> None:
    module = arguments(release)
    args = module.ServerArgs(
        "somewhere", device="acme", cuda_graph_bs_decode=[1, 6], cuda_graph_config={"prefill": {"backend": "full"}}
    )
    if hasattr(args, "resolve_once"):
        args.resolve_once()
    assert args._cuda_graph_config_locked == {("decode", "bs"), ("prefill", "backend")}
    from sglang.srt._arguments.resolving import settled

    config = settled(args).cuda_graph_config
    assert (config.decode.bs, config.decode.max_bs, config.prefill.backend) == ([1, 6], 6, "full")
    assert "pieces" not in asked()


@pytest.mark.parametrize(("release", "device"), [("0.5.11", ""), ("0.5.13", "acme"), ("0.5.23", "acme")])
def test_device_that_the_user_does_not_name(
    arguments: Callable[..., Any], release: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    module = arguments(release)
    if not device:
        with pytest.raises(RuntimeError, match="no accelerator"):
            module.ServerArgs("somewhere")
        return
    args = module.ServerArgs("somewhere")
    if hasattr(args, "resolve_once"):
        args.resolve_once()
    from sglang.srt._arguments.resolving import settled

    assert settled(args).device == device


def test_unsupported_speculation_is_refused(arguments: Callable[..., Any]) -> None:
    module = arguments("0.5.23")
    with pytest.raises(ValueError, match="Platform does not support speculative decoding by EAGLE on device 'acme'"):
        resolved(module, speculative_algorithm="NEXTN")
    values = resolved(module, speculative_algorithm="dflash", speculative_draft_model_path="draft")
    assert values.speculative_draft_attention_backend == "acme_draft"
    assert asked()[-1] == "DFLASH"


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_contradictions_are_refused(arguments: Callable[..., Any], release: str) -> None:
    module = arguments(release)
    args = module.ServerArgs("somewhere", device="acme", chunked_prefill_size=10, page_size=4)
    if hasattr(args, "resolve_once"):
        args.resolve_once()
    with pytest.raises(AssertionError, match="divisible by page_size: 10, 4"):
        args.check_server_args()


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_members_that_the_reference_lacks(arguments: Callable[..., Any], release: str) -> None:
    args = arguments(release).ServerArgs("somewhere", device="acme")
    with pytest.raises(AttributeError, match=r"does not cover sglang\.srt\.server_args\.ServerArgs\.from_cli_args"):
        getattr(args, "from_cli_args")  # noqa: B009
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(args, "nonsense")  # noqa: B009
    assert args.url() == f"http://{args.host}:{args.port}"
    assert hasattr(args, "get_model_config") == (release == "0.5.11")


def test_without_a_table_of_arguments(module: Callable[[str], Any]) -> None:
    import sglang_reference
    from sglang_conformance.contract import tables

    sglang_reference.install(tables.load("0.5.23").to_json())
    try:
        with pytest.raises(sglang_reference.NotCovered, match="server_args without a table"):
            module("sglang.srt.server_args")
    finally:
        sglang_reference.uninstall()
