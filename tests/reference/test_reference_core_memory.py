"""The core's pools and allocators, by release: buffers, slots, pages."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sglang_reference
from sglang_conformance.contract import tables

RELEASES = ["0.5.11", "0.5.16", "0.5.20", "0.5.23"]
LAYERS, FIRST = 3, 2

Core = Callable[[str], Any]


@pytest.fixture(scope="module", params=RELEASES)
def core(request: pytest.FixtureRequest) -> Iterator[Core]:
    """Imports modules below mem_cache; the reference is installed once for all tests of a release."""
    sglang_reference.install(tables.load(request.param).to_json())
    yield lambda name: importlib.import_module(f"sglang.srt.mem_cache.{name}")
    sglang_reference.uninstall()


def allocators(core: Core) -> Any:
    return core("allocator")


def paged(core: Core, pages: int = 8, page_size: int = 4, *, need_sort: bool = False) -> Any:
    return allocators(core).PagedTokenToKVPoolAllocator(
        pages * page_size, page_size=page_size, dtype=torch.float32, device="cpu", kvcache=None, need_sort=need_sort
    )


def mha(core: Core, **changes: Any) -> Any:
    given = {"dtype": torch.float32, "head_num": 2, "head_dim": 3, "start_layer": FIRST, "end_layer": FIRST + LAYERS}
    return core("memory_pool").MHATokenToKVPool(
        16, page_size=4, layer_num=LAYERS, device="cpu", enable_memory_saver=False, **{**given, **changes}
    )


def layer(number: int) -> SimpleNamespace:
    return SimpleNamespace(layer_id=number)


def request(**kv: Any) -> SimpleNamespace:
    return SimpleNamespace(rid="r", kv=SimpleNamespace(req_pool_idx=None, **kv))


def test_classes_say_where_the_release_has_them(core: Core) -> None:
    pool = mha(core)
    assert type(pool).__module__ == "sglang.srt.mem_cache.memory_pool"
    kind = allocators(core).PagedTokenToKVPoolAllocator
    assert kind.__module__.startswith("sglang.srt.mem_cache.allocator")
    assert pickle.loads(pickle.dumps(kind)) is kind


def test_a_pool_holds_what_a_layer_of_this_rank_writes(core: Core) -> None:
    pool = mha(core, v_head_dim=5)
    keys, values = torch.rand(2, 2, 3), torch.rand(2, 2, 5)
    pool.set_kv_buffer(layer(FIRST + 1), torch.tensor([4, 9]), keys, values)
    held_keys, held_values = pool.get_kv_buffer(FIRST + 1)
    assert held_keys.shape == (20, 2, 3)
    assert held_values.shape == (20, 2, 5)
    assert torch.equal(held_keys[[4, 9]], keys)
    assert torch.equal(held_values[[4, 9]], values)
    assert held_keys.sum() == pytest.approx(keys.sum().item())
    assert not pool.get_key_buffer(FIRST).any()
    assert not pool.get_value_buffer(FIRST + 2).any()
    assert pool.get_kv_size_bytes() == (LAYERS * 20 * 2 * 3 * 4, LAYERS * 20 * 2 * 5 * 4)


def test_a_pool_keeps_its_dtype(core: Core) -> None:
    pool = mha(core, dtype=torch.float8_e5m2)
    pool.set_kv_buffer(
        layer(FIRST), torch.tensor([1]), torch.full((1, 2, 3), 3.0), torch.full((1, 2, 3), 8.0), 2.0, 4.0
    )
    keys, values = pool.get_kv_buffer(FIRST)
    assert keys.dtype is torch.float8_e5m2
    assert torch.all(keys[1].float() == 1.5)
    assert torch.all(values[1].float() == 2.0)


@pytest.mark.parametrize("kind", ["mha", "mla"])
def test_slots_move_and_go_to_the_host_and_back(core: Core, kind: str) -> None:
    pool = mha(core) if kind == "mha" else mla(core)
    buffers = [*pool.k_buffer, *pool.v_buffer] if kind == "mha" else pool.kv_buffer
    for number, buffer in enumerate(buffers):
        buffer[3] = number + 1
    copied = pool.get_cpu_copy(torch.tensor([3]))
    pool.load_cpu_copy(copied, torch.tensor([7]))
    assert [float(buffer[7].flatten()[0]) for buffer in buffers] == [number + 1 for number in range(len(buffers))]
    if hasattr(pool, "move_kv_cache"):
        pool.move_kv_cache(torch.tensor([9]), torch.tensor([7]))
        assert all(torch.equal(buffer[9], buffer[3]) for buffer in buffers)


def mla(core: Core, **changes: Any) -> Any:
    given = {"dtype": torch.float32, "kv_lora_rank": 4, "qk_rope_head_dim": 2, "start_layer": FIRST}
    return core("memory_pool").MLATokenToKVPool(
        16, page_size=4, layer_num=LAYERS, device="cpu", enable_memory_saver=False, **{**given, **changes}
    )


def test_a_latent_pool_holds_both_parts(core: Core) -> None:
    pool = mla(core)
    latent, rotary = torch.rand(2, 1, 4), torch.rand(2, 1, 2)
    slots = torch.tensor([5, 6])
    pool.set_mla_kv_buffer(layer(FIRST), slots, latent, rotary)
    assert torch.equal(pool.get_key_buffer(FIRST)[slots], torch.cat((latent, rotary), -1))
    assert torch.equal(pool.get_value_buffer(FIRST)[slots], latent)
    assert all(map(torch.equal, pool.get_mla_kv_buffer(layer(FIRST), slots), (latent, rotary)))
    pool.set_kv_buffer(layer(FIRST + 1), slots, torch.cat((latent, rotary), -1), latent)
    assert torch.equal(pool.get_key_buffer(FIRST + 1), pool.get_key_buffer(FIRST))
    assert pool.get_kv_size_bytes() == LAYERS * 20 * 6 * 4


def test_a_sparse_pool_holds_index_keys_page_by_page(core: Core) -> None:
    pools = core("memory_pool")
    kind = getattr(pools, "DSATokenToKVPool", None) or pools.NSATokenToKVPool
    pool = kind(
        128,
        page_size=64,
        dtype=torch.bfloat16,
        kv_lora_rank=4,
        qk_rope_head_dim=2,
        layer_num=1,
        device="cpu",
        kv_cache_dim=6,
        enable_memory_saver=False,
        start_layer=0,
        end_layer=1,
        index_head_dim=128,
    )
    keys = torch.randn(2, 128).to(torch.float8_e4m3fn)
    pool.set_index_k_scale_buffer(0, torch.tensor([64 + 3, 5]), keys, torch.tensor([[2.0], [3.0]]))
    page = pool.get_index_k_with_scale_buffer(0)[1]
    assert page.shape == (64 * 132,)
    assert torch.equal(page[3 * 128 : 4 * 128], keys[0].view(torch.uint8))
    assert page[64 * 128 :].view(torch.float32)[3] == 2.0
    assert pool.get_kv_size_bytes() == 192 * 6 * 2 + 3 * 64 * 132


def test_rows_are_given_and_taken_back(core: Core) -> None:
    pool = core("memory_pool").ReqToTokenPool(size=2, max_context_len=8, device="cpu", enable_memory_saver=False)
    first, second, third = (request() for _ in range(3))
    rows = pool.alloc([first, second])
    assert sorted(rows) == [1, 2]  # row 0 is the padding's
    assert pool.alloc([third]) is None
    assert third.kv.req_pool_idx is None
    assert pool.alloc([second, first]) == rows[::-1]  # those that have a row keep it
    pool.write((rows[0], slice(0, 3)), torch.tensor([5, 6, 7]))
    assert pool.req_to_token[rows[0]].tolist() == [5, 6, 7, 0, 0, 0, 0, 0]
    pool.free(first)
    assert first.kv.req_pool_idx is None
    assert pool.available_size() == 1
    assert pool.alloc([third]) == [rows[0]]


def test_slots_one_by_one(core: Core) -> None:
    allocator = allocators(core).TokenToKVPoolAllocator(4, torch.float32, "cpu", None, need_sort=False)
    assert allocator.alloc(3).tolist() == [1, 2, 3]
    assert allocator.alloc(2) is None
    assert allocator.available_size() == 1
    allocator.free_group_begin()
    allocator.free(torch.tensor([2]))
    assert allocator.available_size() == 1
    allocator.free_group_end()
    assert allocator.alloc(2).tolist() == [4, 2]
    allocator.clear()
    assert allocator.available_size() == 4


def extend(allocator: Any, prefix: list[int], lengths: list[int], last: list[int]) -> Any:
    before, after = torch.tensor(prefix), torch.tensor(lengths)
    return allocator.alloc_extend(before, before, after, after, torch.tensor(last), int((after - before).sum()))


def decode(allocator: Any, lengths: list[int], last: list[int]) -> Any:
    return allocator.alloc_decode(torch.tensor(lengths), torch.tensor(lengths), torch.tensor(last))


def test_pages_are_filled_before_new_ones_are_taken(core: Core) -> None:
    allocator = paged(core)
    slots = extend(allocator, [0, 0], [5, 4], [-1, -1])
    assert slots.tolist() == [4, 5, 6, 7, 8, 12, 13, 14, 15]
    assert extend(allocator, [5, 4], [7, 5], [8, 15]).tolist() == [9, 10, 16]
    assert decode(allocator, [8, 6], [10, 16]).tolist() == [11, 17]
    assert decode(allocator, [9, 7], [11, 17]).tolist() == [20, 18]
    assert allocator.available_size() == 3 * 4
    assert extend(allocator, [0], [13], [-1]) is None
    assert allocator.available_size() == 3 * 4
    assert extend(allocator, [0], [12], [-1]).tolist() == list(range(24, 36))
    assert decode(allocator, [10, 9], [20, 19]) is None
    assert decode(allocator, [10, 8], [20, 18]).tolist() == [21, 19]


@pytest.mark.parametrize("need_sort", [False, True])
def test_pages_come_back_whole_and_once(core: Core, need_sort: bool) -> None:
    allocator = paged(core, need_sort=need_sort)
    slots = extend(allocator, [0, 0], [9, 3], [-1, -1])
    allocator.free_group_begin()
    allocator.free(slots[9:])
    assert allocator.available_size() == 4 * 4
    allocator.free_group_end()
    assert allocator.available_size() == 5 * 4
    allocator.free(slots[:9])
    assert allocator.available_size() == 8 * 4
    assert sorted(set((allocator.alloc(32) // 4).tolist())) == list(range(1, 9))
    assert allocator.alloc(4) is None


def test_slots_are_those_of_a_plain_count(core: Core) -> None:
    """Against requests that are filled token by token, at lengths at and around borders of pages."""
    allocator = paged(core, pages=64)
    rows: list[list[int]] = [[] for _ in range(9)]
    for step in ((0, 1, 3, 4, 5, 7, 8, 9, 11), (1, 4, 1, 3, 1, 0, 4, 5, 1), (8, 1, 2, 5, 4, 3, 0, 1, 9)):
        before = [len(row) for row in rows]
        after = [a + b for a, b in zip(before, step, strict=True)]
        slots = extend(allocator, before, after, [row[-1] if row else -1 for row in rows]).tolist()
        for row, number in zip(rows, step, strict=True):
            row += [slots.pop(0) for _ in range(number)]
    for row in rows:
        for start in range(0, len(row), 4):
            page = row[start : start + 4]
            assert page[0] % 4 == 0
            assert page == list(range(page[0], page[0] + len(page)))
    pages = [slot // 4 for row in rows for slot in row[::4]]
    assert len(set(pages)) == len(pages)
    assert 0 not in pages
    assert allocator.available_size() == (64 - len(pages)) * 4
