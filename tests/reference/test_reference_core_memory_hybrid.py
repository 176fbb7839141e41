"""Pools of several kinds of layers: what is in which, and which of it a platform's classes are."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest
import torch

RELEASES = ["0.5.11", "0.5.13", "0.5.17", "0.5.23"]
FULL, WINDOW = [1, 4], [0, 2, 3]

Module = Callable[[str], Any]


@pytest.fixture(params=RELEASES)
def cache(request: pytest.FixtureRequest, install: Any, module: Module) -> Callable[[str], Any]:
    install(request.param)

    def part(name: str) -> Any:
        return module(f"sglang.srt.mem_cache.{name}")

    return part


def windowed(cache: Any, **changes: Any) -> Any:
    pools = cache("swa_memory_pool")
    given = {"page_size": 4, "dtype": torch.float32, "head_num": 1, "head_dim": 2, "device": "cpu", **changes}
    return pools.SWAKVPool(
        size=32,
        size_swa=16,
        swa_attention_layer_ids=WINDOW,
        full_attention_layer_ids=FULL,
        **given,
        **untransposed(pools.SWAKVPool),
    )


def untransposed(kind: type) -> dict[str, bool]:
    """What a pool has to be told before 0.5.15."""
    return {"enable_kvcache_transpose": False} if "enable_kvcache_transpose" in signature(kind).parameters else {}


def allocator(cache: Any, pool: Any) -> Any:
    try:
        kind = cache("allocator.swa").SWATokenToKVPoolAllocator
    except ModuleNotFoundError:
        kind = cache("swa_memory_pool").SWATokenToKVPoolAllocator
    return kind(32, 16, page_size=4, dtype=torch.float32, device="cpu", kvcache=pool, need_sort=False)


def layer(number: int) -> SimpleNamespace:
    return SimpleNamespace(layer_id=number)


def write(cache: Any, pool: Any, number: int, slots: torch.Tensor, value: float) -> None:
    values = torch.full((len(slots), 1, 2), value)
    window = pool.translate_loc_from_full_to_swa(slots)
    try:
        write_loc = cache("memory_pool").KVWriteLoc
    except AttributeError:
        write_loc = None
    pool.set_kv_buffer(layer(number), slots if write_loc is None else write_loc(slots, window), values, -values)


def test_layers_with_a_window_are_in_a_pool_of_their_own(cache: Any) -> None:
    pool = windowed(cache)
    slots = allocator(cache, pool)
    got = slots.alloc_extend(*[torch.tensor([0])] * 2, *[torch.tensor([6])] * 2, torch.tensor([-1]), 6)
    for number in (*FULL, *WINDOW):
        write(cache, pool, number, got, number + 1.0)
    window = pool.translate_loc_from_full_to_swa(got)
    for number in (*FULL, *WINDOW):
        keys, values = pool.get_kv_buffer(number)
        assert len(keys) == (36 if number in FULL else 20)
        where = got if number in FULL else window
        assert torch.all(keys[where] == number + 1)
        assert torch.all(values[where] == -number - 1)
        assert int((keys[:, 0, 0] != 0).sum()) == 6
    assert pool.get_kv_size_bytes() == (2 * 36 * 8 + 3 * 20 * 8,) * 2


def test_slots_that_left_the_window_come_back_alone(cache: Any) -> None:
    pool = windowed(cache)
    slots = allocator(cache, pool)
    first = slots.alloc_extend(*[torch.tensor([0])] * 2, *[torch.tensor([12])] * 2, torch.tensor([-1]), 12)
    assert (slots.full_available_size(), slots.swa_available_size()) == (20, 4)
    assert slots.alloc_extend(*[torch.tensor([0])] * 2, *[torch.tensor([8])] * 2, torch.tensor([-1]), 8) is None
    slots.free_swa(first[:8])
    assert (slots.full_available_size(), slots.swa_available_size()) == (20, 12)
    assert pool.translate_loc_from_full_to_swa(first).tolist()[:8] == [0] * 8
    second = slots.alloc_decode(torch.tensor([13]), torch.tensor([13]), first[-1:])
    assert not set(second.tolist()) & set(first.tolist())
    slots.free(torch.cat((first, second)))
    assert (slots.full_available_size(), slots.swa_available_size()) == (32, 16)
    assert slots.available_size() == slots.size == 16


def test_a_copy_on_the_host_has_both(cache: Any) -> None:
    pool = windowed(cache)
    slots = allocator(cache, pool)
    got = slots.alloc_extend(*[torch.tensor([0])] * 2, *[torch.tensor([8])] * 2, torch.tensor([-1]), 8)
    for number in (FULL[0], WINDOW[0]):
        write(cache, pool, number, got[:4], 5.0)
    pool.load_cpu_copy(pool.get_cpu_copy(got[:4]), got[4:])
    window = pool.translate_loc_from_full_to_swa(got)
    assert torch.all(pool.get_key_buffer(FULL[0])[got] == 5.0)
    assert torch.all(pool.get_key_buffer(WINDOW[0])[window.long()] == 5.0)


@pytest.fixture
def vendor(install: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch, module: Module) -> Callable[[str], Any]:
    def made(release: str) -> Any:
        platform_plugin("acme", "calls = []")
        monkeypatch.setenv("SGLANG_PLATFORM", "acme")
        install(release)
        assert module("sglang.srt.platforms").current_platform.device_name == "acme"
        return module("vendor_acme")

    return made


@pytest.mark.parametrize(("release", "asked"), [("0.5.13", 0), ("0.5.21", 0), ("0.5.22", 1), ("0.5.23", 1)])
def test_both_allocators_are_of_the_platforms_class(vendor: Any, module: Module, release: str, asked: int) -> None:
    acme = vendor(release)

    def part(name: str) -> Any:
        return module(f"sglang.srt.mem_cache.{name}")

    base = part("allocator").PagedTokenToKVPoolAllocator
    own = type("Own", (base,), {})

    def get(self: Any) -> type:
        acme.calls.append("get_paged_allocator_cls")
        return own

    acme.Platform.get_paged_allocator_cls = get
    slots = allocator(part, windowed(part))
    assert type(slots.full_attn_allocator) is type(slots.swa_attn_allocator) is (own if asked else base)
    assert len(acme.calls) == 2 * asked


def linear(part: Any, **changes: Any) -> Any:
    kind = part("memory_pool").HybridLinearKVPool
    given = {"head_num": 1, "head_dim": 2, "mamba_pool": None, "start_layer": 0, **changes}
    return kind(
        size=8,
        dtype=torch.float32,
        page_size=4,
        full_attention_layer_ids=[3, 7],
        device="cpu",
        **given,
        **untransposed(kind),
    )


def test_only_layers_with_full_attention_are_in_a_pool(cache: Any) -> None:
    pool = linear(cache)
    values = torch.ones(2, 1, 2)
    pool.set_kv_buffer(layer(7), torch.tensor([4, 5]), values, 2 * values)
    assert pool.get_key_buffer(7).sum() == 4
    assert pool.get_value_buffer(7).sum() == 8
    assert not pool.get_kv_buffer(3)[0].any()
    assert pool.get_kv_size_bytes() == (2 * 12 * 8,) * 2
    with pytest.raises(ValueError, match="layer 5 has no full attention"):
        pool.get_key_buffer(5)


def test_of_latent_attention_too(cache: Any) -> None:
    pool = linear(cache, use_mla=True, kv_lora_rank=4, qk_rope_head_dim=2)
    written = layer(3)
    pool.set_mla_kv_buffer(written, torch.tensor([4]), torch.ones(1, 1, 4), torch.zeros(1, 1, 2))
    assert written.layer_id == 3
    latent, rotary = pool.get_mla_kv_buffer(written, torch.tensor([4]))
    assert torch.all(latent == 1)
    assert torch.all(rotary == 0)
    assert not pool.get_key_buffer(7).any()


@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("release", ["0.5.11", "0.5.15", "0.5.21", "0.5.22"])
def test_the_inner_pool_is_of_the_platforms_class(vendor: Any, module: Module, release: str, latent: bool) -> None:
    acme = vendor(release)

    def part(name: str) -> Any:
        return module(f"sglang.srt.mem_cache.{name}")

    base = getattr(part("memory_pool"), "MLATokenToKVPool" if latent else "MHATokenToKVPool")

    def init(self: Any, **given: Any) -> None:
        acme.calls.append(given)
        base.__init__(self, **given)

    own = type("Own", (base,), {"__init__": init})
    sizes = {"kv_lora_rank": 4, "qk_rope_head_dim": 2} if latent else {"head_num": 1, "head_dim": 2}
    if release == "0.5.22":
        pool = linear(part, use_mla=latent, full_kv_pool_class=own, **{**sizes, "head_num": 1, "head_dim": 2})
    else:
        setattr(acme.Platform, f"get_{'mla' if latent else 'mha'}_kv_pool_cls", lambda self: own)
        pool = linear(part, use_mla=latent, **{**sizes, "head_num": 1, "head_dim": 2})
    assert type(pool.full_kv_pool) is own
    common = {"size": 8, "page_size": 4, "dtype": torch.float32, "layer_num": 2, "device": "cpu"}
    more: dict[str, Any] = {"enable_kv_cache_copy": False} if release > "0.5.11" and not latent else {}
    more |= {"quant_method": None} if release == "0.5.22" and not latent else {}
    assert acme.calls == [{**common, "enable_memory_saver": False, **sizes, **more}]
