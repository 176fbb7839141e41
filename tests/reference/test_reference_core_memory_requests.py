"""What requests take and give back, by release: rows, slots, what is kept for others, what is evicted."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sglang_reference
from sglang_conformance.contract import tables

RELEASES = ["0.5.11", "0.5.16", "0.5.17", "0.5.21", "0.5.23"]
ROWS, CONTEXT = 6, 64

Module = Callable[[str], Any]


class Core:
    """Pools, a cache of prefixes and a scheduler's few steps, on the reference of one release."""

    def __init__(self, module: Module, page_size: int, tokens: int, *, shared: bool = True) -> None:
        self.requests = module("sglang.srt.mem_cache._requests")
        try:
            self.allocation = module("sglang.srt.mem_cache.allocation")
        except ModuleNotFoundError:
            self.allocation = module("sglang.srt.mem_cache.common")
        pools = module("sglang.srt.mem_cache.memory_pool")
        allocators = module("sglang.srt.mem_cache.allocator")
        given = {"dtype": torch.float32, "device": "cpu", "kvcache": None, "need_sort": False}
        if page_size == 1:
            self.allocator = allocators.TokenToKVPoolAllocator(tokens, **given)
        else:
            self.allocator = allocators.PagedTokenToKVPoolAllocator(tokens, page_size=page_size, **given)
        self.rows = pools.ReqToTokenPool(size=ROWS, max_context_len=CONTEXT, device="cpu", enable_memory_saver=False)
        arguments = SimpleNamespace(disable_radix_cache=not shared, radix_eviction_policy="lru", page_size=page_size)
        self.tree = self.requests.tree_cache_of(arguments, self.rows, self.allocator)
        self.page_size = page_size

    def request(self, tokens: list[int], extra_key: str | None = None) -> SimpleNamespace:
        kv = SimpleNamespace(req_pool_idx=None, kv_allocated_len=0, kv_committed_len=0, cache_protected_len=0)
        return SimpleNamespace(rid="r", kv=kv, origin_input_ids=tokens, output_ids=[], extra_key=extra_key, lock=None)

    def batch(self, requests: list[Any], lengths: list[int], **more: Any) -> SimpleNamespace:
        lens = torch.tensor(lengths)
        return SimpleNamespace(
            reqs=requests,
            seq_lens=lens,
            seq_lens_cpu=lens,
            device="cpu",
            tree_cache=self.tree,
            req_to_token_pool=self.rows,
            **more,
        )

    def extend(self, *requests: Any) -> list[int]:
        for req in requests:
            self.requests.match(req, self.tree)
            self.requests.hold(req, self.tree)
        lengths = [len(req.origin_input_ids + req.output_ids) for req in requests]
        prefix = [req.prefix_len for req in requests]
        new = [length - begins for length, begins in zip(lengths, prefix, strict=True)]
        batch = self.batch(list(requests), lengths, prefix_lens=prefix, extend_lens=new, extend_num_tokens=sum(new))
        slots, _, _ = self.allocation.alloc_for_extend(batch)
        return list(slots.tolist())

    def decode(self, *requests: Any) -> list[int]:
        rows = torch.tensor([req.kv.req_pool_idx for req in requests])
        lengths = [req.kv.kv_committed_len for req in requests]
        for req in requests:
            req.output_ids = [*req.output_ids, len(req.output_ids)]
        return list(
            self.allocation.alloc_for_decode(self.batch(list(requests), lengths, req_pool_indices=rows), 1).tolist()
        )

    def row(self, req: Any) -> list[int]:
        return list(self.rows.req_to_token[req.kv.req_pool_idx, : req.kv.kv_committed_len].tolist())

    def finish(self, req: Any, *, kept: bool = True) -> None:
        self.requests.give_back(req, self.tree, kept=kept)

    @property
    def free(self) -> int:
        return int(self.allocator.available_size())


@pytest.fixture(scope="module", params=RELEASES)
def core(request: pytest.FixtureRequest) -> Iterator[Callable[..., Core]]:
    """Makes one; the reference is installed once for all tests of a release."""
    sglang_reference.install(tables.load(request.param).to_json())
    yield lambda *args, **kwargs: Core(importlib.import_module, *args, **kwargs)
    sglang_reference.uninstall()


@pytest.mark.parametrize("page_size", [1, 4])
def test_requests_share_what_they_begin_with(core: Any, page_size: int) -> None:
    it = core(page_size, 64)
    first = it.request([1, 2, 3, 4, 5, 6, 7, 8, 9])
    slots = it.extend(first)
    assert it.row(first) == slots
    it.requests.keep(first, it.tree)
    whole = 9 // page_size * page_size
    assert it.tree.protected_size() == whole
    second = it.request([1, 2, 3, 4, 5, 6, 7, 8, 30, 31])
    more = it.extend(second)
    assert it.row(second) == slots[:8] + more
    assert len(more) == 2
    other = it.request([1, 2, 3, 4, 5], extra_key="adapter")
    assert len(it.extend(other)) == 5
    for req in (first, second, other):
        it.finish(req)
    assert it.tree.protected_size() == 0
    assert it.free + it.tree.evictable_size() == 64
    assert it.rows.available_size() == ROWS


def test_the_last_token_of_a_prompt_is_computed_anew(core: Any) -> None:
    it = core(1, 32)
    first = it.request([1, 2, 3, 4])
    it.extend(first)
    it.finish(first)
    again = it.request([1, 2, 3, 4])
    assert len(it.extend(again)) == 1
    it.requests.keep(again, it.tree)  # its slot of the last token is the one that was kept
    assert it.row(again) == [1, 2, 3, 4]
    assert it.free == 28


@pytest.mark.parametrize("page_size", [1, 4])
def test_without_sharing_everything_comes_back(core: Any, page_size: int) -> None:
    it = core(page_size, 32, shared=False)
    first, second = it.request([1, 2, 3, 4, 5]), it.request([1, 2, 3, 4, 5])
    assert len(it.extend(first, second)) == 10
    it.requests.keep(first, it.tree)
    it.decode(first, second)
    it.finish(first)
    it.finish(second, kept=False)
    assert it.free == 32


@pytest.mark.parametrize("page_size", [1, 4])
def test_what_nobody_holds_is_evicted_the_oldest_first(core: Any, page_size: int) -> None:
    it = core(page_size, 32)
    for begin in (100, 200, 300):
        req = it.request(list(range(begin, begin + 8)))
        it.extend(req)
        it.finish(req)
    assert it.tree.evictable_size() == 24
    held = it.request(list(range(100, 108)))  # used again: the oldest but one is evicted
    it.requests.match(held, it.tree)
    it.extend(it.request(list(range(400, 412))))
    assert it.requests.match(it.request(list(range(100, 109))), it.tree) == 8
    assert it.requests.match(it.request(list(range(200, 209))), it.tree) == 0


@pytest.mark.parametrize("page_size", [1, 4])
def test_what_cannot_be_had_is_told(core: Any, page_size: int) -> None:
    it = core(page_size, 8)
    req = it.request(list(range(8)))
    it.extend(req)
    with pytest.raises(RuntimeError, match=r"ut of memory. Try to lower your batch size.[\s\S]*Available tokens: 0"):
        it.extend(it.request([50, 51]))
    with pytest.raises(RuntimeError, match="ut of memory"):
        it.decode(req)
    for _ in range(ROWS - 2):
        it.rows.alloc([it.request([])])
    with pytest.raises(RuntimeError, match="alloc_req_slots runs out of memory"):
        it.extend(it.request([60]))


@pytest.mark.parametrize("page_size", [1, 2, 4])
@pytest.mark.parametrize("shared", [False, True])
def test_no_slot_has_two_owners_and_none_is_lost(core: Any, page_size: int, shared: bool) -> None:
    """Over random schedules, in pools that are nearly full: prompts, decoding, retraction, ends."""
    draw = random.Random(page_size)
    it = core(page_size, 48, shared=shared)
    running: list[Any] = []
    evicted: list[int] = []
    evict = it.tree.evict

    def counted(params: Any) -> Any:
        result = evict(params)
        evicted.append(result.num_tokens_evicted)
        return result

    it.tree.evict = counted
    contents: dict[int, tuple[int, ...]] = {}  # what a slot was written for: the tokens up to its own

    def written(req: Any) -> None:
        tokens = (req.origin_input_ids + req.output_ids)[: req.kv.kv_committed_len]
        for position, slot in enumerate(it.row(req)):
            contents[slot] = tuple(tokens[: position + 1])

    def check() -> None:
        own: list[int] = []
        for req in running:
            row = it.row(req)
            tokens = req.origin_input_ids + req.output_ids
            assert [contents[slot] for slot in row] == [tuple(tokens[: at + 1]) for at in range(len(row))]
            own += row[req.kv.cache_protected_len :]
        assert len(set(own)) == len(own)
        kept = it.tree.all_values_flatten().tolist() if shared else []
        assert not set(own) & set(kept)
        pages = {slot // page_size for slot in own + kept}
        assert it.free == 48 - len(pages) * page_size
        assert 0 not in pages

    for _ in range(60):
        step = draw.random()
        room = it.free + it.tree.evictable_size()
        if step < 0.35 and len(running) < ROWS and room >= 24 + 2 * page_size:
            req = it.request([draw.randrange(3) for _ in range(draw.randrange(1, 12))])
            it.extend(req)
            written(req)
            it.requests.keep(req, it.tree)
            running.append(req)
        elif step < 0.75 and running and room >= len(running) * page_size:
            it.decode(*running)
            for req in running:
                written(req)
        elif running:
            it.finish(running.pop(draw.randrange(len(running))), kept=draw.random() < 0.7)
        check()
    while running:
        it.finish(running.pop())
        check()
    assert (sum(evicted) > 0) == shared
    assert it.free + it.tree.evictable_size() == 48
    assert it.rows.available_size() == ROWS
