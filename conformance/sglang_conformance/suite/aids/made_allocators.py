"""Allocators of the platform's class, made as SGLang's core makes them, and what they may be asked in a row.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
from typing import Any

from hypothesis import strategies as st

from ...contract.model import Contract
from ...hosts import serving
from .. import expect
from ..serving.allocating import MEMBER, Asked
from . import made_pools, parts, worker
from .made_pools import HEADS, WIDTH, Form
from .uncovered import answer_of

PAGES = 6
KINDS = ("extend", "extend", "extend", "decode", "decode", "free", "shorten", "clear")
_ALLOCATOR = "srt.mem_cache.allocator"
_CAUSE = "so SGLang's core makes it in this release"

Turns = list[tuple[str, dict[str, int]]]


def turns(*kinds: str) -> st.SearchStrategy[Turns]:
    """What requests do one after another: each of these kinds with some requests, and a number for each of them."""
    names = st.sampled_from(["a", "b", "c", "d"])
    who = st.dictionaries(names, st.integers(1, 40), min_size=1, max_size=3)
    return st.lists(st.tuples(st.sampled_from(kinds or KINDS), who), min_size=1, max_size=10)


def page_sizes(platform: Any, contract: Contract) -> tuple[int, ...]:
    """The sizes of pages for which the core asks the platform: also single slots, up to 0.5.21."""
    vendors = platform.is_out_of_tree() and not contract.kv_pool_kinds
    return (1, 4, 16) if vendors else (4, 16)


def asked(platform: Any, contract: Contract, page_size: int, *, need_sort: bool) -> Asked:
    """An allocator of a few pages, of the class that the core takes."""
    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    form = Form("mha", page_size, PAGES)
    kind, where = _class(platform, contract)
    given = {
        "page_size": page_size,
        "dtype": _float32(),
        "device": platform.device_type,
        "kvcache": _pool(platform, contract, form),
        "need_sort": need_sort,
    }
    call = f"{getattr(kind, '__name__', kind)}({form.tokens}, page_size={page_size}, need_sort={need_sort}, ...)"
    made = parts.attempt(call, lambda: kind(form.tokens, **given), where=where, cause=_CAUSE)
    return Asked(made, device, form.tokens, page_size)


def play(allocator: Asked, said: Turns, *, beyond: bool = False, **how: bool) -> None:
    """Take the turns, of what they say that can be done; ``beyond``: also ask for more slots than are free."""
    for kind, who in said:
        there = [name for name in who if name in allocator.pages.owned]
        if kind == "extend" and (beyond or _fits(allocator, who)):
            allocator.begin(who)
        elif kind == "decode" and there and (beyond or _fits(allocator, dict.fromkeys(there, 1))):
            allocator.step(there)
        elif kind == "free" and there:
            allocator.end(there, **how)
        elif kind == "shorten" and there:
            allocator.shorten(there[0], who[there[0]] % 3, segments=how.get("segments", False))
        elif kind == "clear":
            allocator.clear()


class Window:
    """SGLang's allocator for models with a sliding window, whose two parts are of the platform's class."""

    def __init__(self, platform: Any, contract: Contract, page_size: int) -> None:
        device = worker.devices(platform)[0]
        worker.make_current(platform, device)
        self._size = PAGES * page_size
        answer = made_pools.class_for(platform, contract, "mha")
        pool = answer.value if answer else made_pools.own_class(contract, "mha")
        shared = {"page_size": page_size, "dtype": _float32(), "device": platform.device_type}
        pools = parts.part("SWAKVPool", "srt.mem_cache.swa_memory_pool")
        kvcache = parts.attempt(
            f"SWAKVPool(token_to_kv_pool_class={pool.__name__}, ...)",
            lambda: pools(
                size=self._size,
                size_swa=self._size,
                post_capture_active=False,
                head_num=HEADS,
                head_dim=WIDTH,
                swa_attention_layer_ids=[1],
                full_attention_layer_ids=[0],
                enable_kv_cache_copy=False,
                token_to_kv_pool_class=pool,
                enable_memory_saver=False,
                **({"enable_kvcache_transpose": False} if _takes(pools, "enable_kvcache_transpose") else {}),
                **shared,
            ),
            where=answer.where if answer else "",
            cause=_CAUSE,
        )
        kind = parts.part("SWATokenToKVPoolAllocator", f"{_ALLOCATOR}.swa", "srt.mem_cache.swa_memory_pool")
        self.allocator = parts.attempt(
            "SWATokenToKVPoolAllocator(...)",
            lambda: kind(self._size, self._size, kvcache=kvcache, need_sort=False, **shared),
            where=_class(platform, contract)[1],
            cause=_CAUSE,
        )
        self.asked = Asked(self.allocator, device, self._size, page_size)

    def is_whole(self) -> None:
        """Fail unless each slot that is in use has one of the window's of its own."""
        slots = [slot for own in self.asked.pages.owned.values() for slot in own]
        if not slots:
            return
        seen = worker.values(self.allocator.full_to_swa_index_mapping[self.asked.slots(slots)])
        twice = [slot for slot in seen if slot <= 0 or seen.count(slot) > 1]
        told = f"slots {slots} have {seen} in the window's pool"
        expect.that(not twice, expected="a slot of the window's pool for each, none twice", seen=told, call=MEMBER)

    def leave(self, name: str) -> None:
        """The first page of a request leaves the window: its slots there can be had again."""
        size = self.asked.pages.size
        if len(self.asked.pages.owned.get(name, ())) < size:
            return
        before = int(self.allocator.swa_available_size())
        call = "free_swa(the first page of a request)"
        slots = self.asked.slots(self.asked.pages.owned[name][:size])
        parts.attempt(call, lambda: self.allocator.free_swa(slots))
        expect.equal(int(self.allocator.swa_available_size()), before + size, call=f"{call}; swa_available_size()")


def _class(platform: Any, contract: Contract) -> tuple[Any, str]:
    """The class that the core takes, and whose line is to be named for it: none for SGLang's own."""
    if made_pools.is_asked(platform, contract):
        answer = answer_of(platform, MEMBER)
        if answer is None:
            raise serving.lacking(f"{MEMBER}() goes to a part of SGLang that this host does not have")
        if answer.value is not None:
            return answer.value, expect.place(answer.value) or answer.where
    return parts.part("PagedTokenToKVPoolAllocator", f"{_ALLOCATOR}.paged", _ALLOCATOR), ""


def _pool(platform: Any, contract: Contract, form: Form) -> Any:
    """The pool whose slots they are; a stand-in where this host has none, since an allocator only keeps it."""
    try:
        return made_pools.made(platform, contract, form).pool
    except ImportError:
        return made_pools.layer(0)


def _fits(allocator: Asked, growth: dict[str, int]) -> bool:
    return allocator.pages.needed(growth) <= allocator.pages.free


def _takes(kind: Any, name: str) -> bool:
    return name in inspect.signature(kind).parameters


def _float32() -> Any:
    import torch

    return torch.float32
