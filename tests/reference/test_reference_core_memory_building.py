"""The pools that the core makes of a platform's classes: how it asks, what it hands them, how large they are."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

KINDS = {"mha": "MHATokenToKVPool", "mla": "MLATokenToKVPool", "dsa": "DSATokenToKVPool"}

VENDOR = """
calls = []

def recorded(name, base=object):
    def init(self, *args, **kwargs):
        calls.append((name, args, kwargs))
        self.args = args
    return type(name, (base,), {"__init__": init})

def hook(name, *given):
    def asked(self, *args, **kwargs):
        calls.append((name, args, kwargs))
        return given[0] if given else None
    setattr(Platform, name, asked)

Platform.get_device_total_memory = lambda self, device_id=0: 3 << 30
Platform.get_current_memory_usage = lambda self, device=None: 1 << 30
"""

Module = Callable[[str], Any]


@pytest.fixture
def vendor(install: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch, module: Module) -> Callable[[str], Any]:
    def made(release: str) -> Any:
        platform_plugin("acme", VENDOR)
        monkeypatch.setenv("SGLANG_PLATFORM", "acme")
        install(release)
        assert module("sglang.srt.platforms").current_platform.device_name == "acme"  # resolves it
        alone(module, monkeypatch)
        return module("vendor_acme")

    return made


def alone(module: Module, monkeypatch: pytest.MonkeyPatch, world_size: int = 1, tensor_parallel: int = 1) -> None:
    """A world of so many ranks, none of which is asked anything."""
    plan = module("sglang.srt.mem_cache._plan")
    monkeypatch.setattr(plan, "group", lambda kind: SimpleNamespace(world_size=world_size, cpu_group=None))
    monkeypatch.setattr(plan, "tensor_parallel", lambda: SimpleNamespace(size=tensor_parallel))


def model(latent: bool = False, sparse: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        hf_config=SimpleNamespace(index_topk=4 if sparse else None),
        context_len=64,
        head_dim=8,
        v_head_dim=8,
        kv_lora_rank=16,
        qk_rope_head_dim=4,
        index_head_dim=128 if sparse else None,
        get_num_kv_heads=lambda size: max(1, 4 // size),
    )


def arguments(**changes: Any) -> SimpleNamespace:
    given = {
        "page_size": 4,
        "enable_memory_saver": False,
        "max_total_tokens": 100,
        "max_running_requests": 5,
        "mem_fraction_static": 0.5,
        "disaggregation_mode": "null",
        "enable_pdmux": False,
        "speculative_algorithm": None,
    }
    return SimpleNamespace(**{**given, **changes})


def configured(module: Module, release: str, *, before: float = 2.0, sparse: bool = False, **changes: Any) -> Any:
    """What SGLang's place of this release makes: by the configurator from 0.5.16 on, before by the runner's mixin."""
    latent = changes.pop("latent", sparse)
    shared: dict[str, Any] = {
        "device": changes.pop("device", "cpu"),
        "gpu_id": 0,
        "model_config": model(latent, sparse),
        "server_args": arguments(**changes),
        "kv_cache_dtype": torch.float32,
        "spec_algorithm": None,
        "is_draft_worker": False,
        "is_hybrid_swa": False,
        "use_mla_backend": latent,
    }
    layers = SimpleNamespace(start_layer=2, end_layer=5, num_effective_layers=3)
    if tuple(map(int, release.split(".")[:3])) < (0, 5, 16):
        mixin = module("sglang.srt.model_executor.model_runner_kv_cache_mixin").ModelRunnerKVCacheMixin
        runner = type("Runner", (mixin,), {})()
        vars(runner).update(**shared, **vars(layers), pp_size=1, dp_size=1)
        runner.init_memory_pool(before)
        return runner
    configurator = module("sglang.srt.mem_cache.kv_cache_configurator").KVCacheConfigurator
    sizes = {"pp_size": 1, "attn_dp_size": 1}
    later = tuple(map(int, release.split(".")[:3])) >= (0, 5, 21)
    others = ["pp_group", "model", "model_dtype", "sliding_window_size", "spec_aux_config", "forward_stream"]
    others += ["req_to_token_pool", "token_to_kv_pool_allocator", "memory_pool_config"]
    return configurator(
        **shared,
        **(sizes if later else {"ps": SimpleNamespace(**sizes)}),
        **dict.fromkeys(others),
        page_size=shared["server_args"].page_size,
        post_capture_kv_active=False,
        is_hybrid_swa_compress=False,
        layer_info=layers,
    ).configure(pre_model_load_memory=before)


COMMON = {
    "page_size": 4,
    "dtype": torch.float32,
    "layer_num": 3,
    "device": "cpu",
    "enable_memory_saver": False,
    "start_layer": 2,
    "end_layer": 5,
}
LATENT = {"kv_lora_rank": 16, "qk_rope_head_dim": 4}


@pytest.mark.parametrize("release", ["0.5.11", "0.5.13", "0.5.15", "0.5.16", "0.5.21"])
@pytest.mark.parametrize("page_size", [1, 4])
def test_an_out_of_tree_platform_is_asked_for_one_pool_and_the_allocator(
    vendor: Any, module: Module, release: str, page_size: int
) -> None:
    acme = vendor(release)
    for kind in ("mha", "mla", "nsa" if release < "0.5.13" else "dsa"):
        acme.hook(f"get_{kind}_kv_pool_cls", acme.recorded(kind))
    acme.hook("get_paged_allocator_cls", acme.recorded("allocator"))
    for latent, sparse in ((False, False), (True, False), (True, True)):
        acme.calls.clear()
        result = configured(module, release, latent=latent, sparse=sparse, page_size=page_size)
        kind = ("nsa" if release < "0.5.13" else "dsa") if sparse else "mla" if latent else "mha"
        own: dict[str, Any] = {"head_num": 4, "head_dim": 8}
        if latent:
            own = {**LATENT, "index_head_dim": 128 if sparse else None} | ({"kv_cache_dim": 20} if sparse else {})
        allocator = {"dtype": torch.float32, "device": "cpu", "kvcache": result.token_to_kv_pool, "need_sort": False}
        assert acme.calls == [
            (f"get_{kind}_kv_pool_cls", (), {}),
            (kind, (100,), {**COMMON, **own, "page_size": page_size}),
            ("get_paged_allocator_cls", (), {}),
            ("allocator", (100,), {"page_size": page_size, **allocator}),
        ]


@pytest.mark.parametrize("release", ["0.5.22", "0.5.23"])
@pytest.mark.parametrize("page_size", [1, 4])
def test_every_kind_is_asked_for_and_one_is_made(vendor: Any, module: Module, release: str, page_size: int) -> None:
    acme = vendor(release)
    pools = module("sglang.srt.mem_cache.memory_pool")
    classes = {kind: acme.recorded(kind, getattr(pools, base)) for kind, base in KINDS.items()}

    def asked(self: Any, *, kind: str) -> Any:
        acme.calls.append(("get_kv_pool_cls", (), {"kind": kind}))
        return classes[kind]

    acme.Platform.get_kv_pool_cls = asked
    acme.hook("get_paged_allocator_cls", acme.recorded("allocator"))
    dsa = {"kv_cache_dim": 20, "index_head_dim": 128, "index_kpool": 1, "index_kpool_compress": False}
    own: dict[str, dict[str, Any]] = {
        "mha": {
            "head_num": 4,
            "head_dim": 8,
            "v_head_dim": 8,
            "enable_alt_stream": True,
            "enable_kv_cache_copy": False,
            "post_capture_active": False,
        },
        "mla": LATENT,
        "dsa": {**LATENT, **dsa, "tail_extra_slots": 0, "max_running_requests": 6},
    }
    for kind in KINDS:
        acme.calls.clear()
        configured(module, release, latent=kind != "mha", sparse=kind == "dsa", page_size=page_size)
        made: list[Any] = [("get_kv_pool_cls", (), {"kind": each}) for each in KINDS]
        made.append((kind, (100,), {**COMMON, **own[kind], "page_size": page_size}))
        assert acme.calls[:4] == made
        assert [name for name, _, _ in acme.calls[4:]] == (
            [] if page_size == 1 else ["get_paged_allocator_cls", "allocator"]
        )


def test_a_class_of_another_kind_is_refused(vendor: Any, module: Module) -> None:
    acme = vendor("0.5.23")
    mla = module("sglang.srt.mem_cache.memory_pool").MLATokenToKVPool
    acme.Platform.get_kv_pool_cls = lambda self, *, kind: mla
    with pytest.raises(TypeError, match=r"get_kv_pool_cls\(kind='mha'\).*no subclass of MHATokenToKVPool"):
        configured(module, "0.5.23")


@pytest.mark.parametrize("release", ["0.5.11", "0.5.16", "0.5.22"])
def test_a_platform_without_classes(vendor: Any, module: Module, release: str) -> None:
    vendor(release)
    if release == "0.5.22":  # SGLang's own serve
        result = configured(module, release)
        assert type(result.token_to_kv_pool).__name__ == "MHATokenToKVPool"
        assert type(result.token_to_kv_pool_allocator).__name__ == "PagedTokenToKVPoolAllocator"
    else:
        with pytest.raises(NotImplementedError):
            configured(module, release)


@pytest.mark.parametrize("release", ["0.5.11", "0.5.16", "0.5.23"])
def test_tokens_and_requests_come_from_memory(
    install: Any, module: Module, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")
    install(release)
    alone(module, monkeypatch, tensor_parallel=2)
    common = module("sglang.srt.utils.common")
    asked: list[Any] = []

    def free(*args: Any, **kwargs: Any) -> float:
        asked.append((args, kwargs))
        return 1.5 / 1024  # GiB

    monkeypatch.setattr(common, "get_available_gpu_memory", free)
    # Of 2 MiB, half are for weights and pools; 0.5 MiB of that are left, at 2 heads of 8 and 8, 3 layers, 4 bytes.
    tokens = (1 << 19) // (2 * 16 * 3 * 4) // 4 * 4
    result = configured(module, release, before=2 / 1024, max_total_tokens=None, max_running_requests=None)
    assert result.max_total_num_tokens == tokens == result.token_to_kv_pool.size
    assert result.max_running_requests == tokens // 2 == result.req_to_token_pool.size
    assert result.token_to_kv_pool_allocator.available_size() == tokens
    assert result.req_to_token_pool.req_to_token.shape == (tokens // 2 + 1, 68)
    assert asked[0] == (("cpu", 0), {"distributed": False, "cpu_group": None})
    assert len(asked) == 2  # and what is left in the end
    few = configured(module, release, before=2 / 1024, max_total_tokens=103, max_running_requests=7)
    assert (few.max_total_num_tokens, few.max_running_requests) == (100, 7)
    with pytest.raises((ValueError, RuntimeError), match="mem-fraction-static"):
        configured(module, release, before=4 / 1024)
