"""Pools of keys and values, made of the platform's classes as SGLang's core makes them, by kind and release.

Up to 0.5.21 an out-of-tree platform's class is made with fewer keywords than SGLang's own, and that of latent attention
with one more (0.5.11, srt/model_executor/model_runner_kv_cache_mixin.py:290; 0.5.21,
srt/mem_cache/kv_cache_configurator.py:1420). From 0.5.22 on it is made as SGLang's own (0.5.23,
srt/mem_cache/kv_cache_configurator.py:2485 and 2775); None leaves the pool to SGLang.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ...contract.model import Contract
from ...hosts import serving
from .. import expect
from . import parts, within, worker
from .pools import POOL_METHODS, POOLS
from .resolution import overrides
from .uncovered import answer_of

HEADS, WIDTH = 3, 8
LATENT, ROTARY = 16, 8
INDEX = 128
SPARSE_PAGE = 64
_MEMORY = "srt.mem_cache.memory_pool"
_METHODS = {"mha": ("get_mha_kv_pool_cls",), "mla": ("get_mla_kv_pool_cls",), "dsa": POOL_METHODS[:1:-1]}


@dataclass(frozen=True)
class Form:
    """What a pool is for: ``pages`` of slots, ``layers`` of them from ``first`` on, which are those of this rank."""

    kind: str = "mha"
    page_size: int = 4
    pages: int = 4
    dtype: str = "float32"
    first: int = 0
    layers: int = 2
    values: int = WIDTH

    @property
    def tokens(self) -> int:
        """How many slots are to be had; those of page 0 come on top."""
        return self.pages * self.page_size

    @property
    def slots(self) -> range:
        """The slots that an allocator hands out."""
        return range(self.page_size, self.tokens + self.page_size)


@dataclass(frozen=True)
class Made:
    """A pool, what it was made for, and who is to be named for it. ``values``: how wide a head's values are."""

    pool: Any
    own: Any
    form: Form
    values: int
    call: str
    where: str

    def written(self, method: str, slots: Any) -> Any:
        """Where to write, as the release's core says it to this method: slots, or an object that holds them."""
        if "loc_info" not in inspect.signature(getattr(self.own, method)).parameters:
            return slots
        return parts.part("KVWriteLoc", _MEMORY)(slots, None)

    def does(self, call: str, action: Any) -> Any:
        """What comes of something that the core does with the pool."""
        return parts.attempt(f"{self.call}; pool.{call}", action, where=self.where)


class _Missing(AttributeError):
    """What a check's own layer has not, and SGLang's has: by its name the kit knows that nobody's plugin is wrong."""


_Missing.__name__ = expect.NotCovered.__name__


class Layer(SimpleNamespace):
    """A layer of attention, as far as a pool asks it."""

    def __getattr__(self, name: str) -> Any:
        raise _Missing(f"a pool asks its layer for {name}, which the kit's own does not have")


def layer(number: int) -> Layer:
    """The attention of one layer, by its number in the whole model."""
    return Layer(layer_id=number, is_cross_attention=False, k_scale=None, v_scale=None)


def kinds(contract: Contract) -> tuple[str, ...]:
    """The kinds of pools that the release asks for."""
    return contract.kv_pool_kinds or tuple(_METHODS)


def is_asked(platform: Any, contract: Contract) -> bool:
    """Whether the core asks this platform for a pool at all: up to 0.5.21 out-of-tree ones alone."""
    return bool(contract.kv_pool_kinds) or bool(platform.is_out_of_tree())


def class_for(platform: Any, contract: Contract, kind: str) -> expect.Answer | None:
    """The platform's class for a kind; None where the pool is SGLang's own.

    Declined where the platform has none, and SGLang no pool of its own for it. NotCovered where it went for a part of
    SGLang that is not here.
    """
    if not is_asked(platform, contract):
        return None
    if contract.kv_pool_kinds:
        answer = answer_of(platform, "get_kv_pool_cls", kind=kind)
    else:
        member = next((name for name in _METHODS[kind] if contract.has(name)), _METHODS[kind][0])
        if not overrides(platform, member):
            raise expect.Declined(f"{member} is SGLang's own default, which refuses")
        answer = answer_of(platform, member)
    if answer is None:
        raise serving.lacking(f"the pool of the kind {kind} goes to a part of SGLang that this host does not have")
    return None if answer.value is None else answer


def keywords(platform: Any, contract: Contract, form: Form, own: Any) -> dict[str, Any]:
    """What the core makes the pool with, beside its size."""
    import torch

    vendors = platform.is_out_of_tree() and not contract.kv_pool_kinds
    given: dict[str, Any] = {
        "page_size": form.page_size,
        "dtype": getattr(torch, form.dtype),
        "layer_num": form.layers,
        "device": platform.device_type,
        "enable_memory_saver": False,
        "start_layer": form.first,
        "end_layer": form.first + form.layers,
    }
    latent = {"kv_lora_rank": LATENT, "qk_rope_head_dim": ROTARY}
    sparse = {**latent, "kv_cache_dim": LATENT + ROTARY, "index_head_dim": INDEX}
    heads = {"head_num": HEADS, "head_dim": WIDTH}
    if vendors:
        fewer: dict[str, dict[str, Any]] = {"mha": heads, "mla": {**latent, "index_head_dim": None}, "dsa": sparse}
        return {**given, **fewer[form.kind]}
    more: dict[str, dict[str, Any]] = {
        "mha": {
            **heads,
            "v_head_dim": form.values,
            "enable_alt_stream": True,
            "enable_kv_cache_copy": False,
            "post_capture_active": False,
        },
        "mla": latent,
        "dsa": {
            **sparse,
            "index_kpool": 1,
            "index_kpool_compress": False,
            "tail_extra_slots": 0,
            "max_running_requests": 8,
        },
    }
    known = inspect.signature(own).parameters
    return {**given, **{name: value for name, value in more[form.kind].items() if name in known}}


def own_class(contract: Contract, kind: str) -> Any:
    """SGLang's own class of a kind; NotCovered where this host cannot import it."""
    earlier = kind == "dsa" and contract.has("get_nsa_kv_pool_cls")
    return parts.part("NSATokenToKVPool" if earlier else POOLS[kind], _MEMORY)


def made(platform: Any, contract: Contract, form: Form) -> Made:
    """A pool of the form on the platform's device; a violation where it cannot be made."""
    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    within.settle(device)
    answer = class_for(platform, contract, form.kind)
    own = own_class(contract, form.kind)
    kind = own if answer is None else answer.value
    given = keywords(platform, contract, form, own)
    told = ", ".join(f"{name}={value}" for name, value in given.items())
    name = getattr(kind, "__name__", expect.show(kind, 40))
    call = f"{name}({form.tokens}, {told})"
    where = expect.place(kind) or (answer.where if answer else "")
    cause = "so SGLang's core makes it in this release"
    pool = parts.attempt(call, lambda: kind(form.tokens, **given), where=where if answer else "", cause=cause)
    values = given.get("v_head_dim", WIDTH) if form.kind == "mha" else LATENT
    return Made(pool, own, form, values, f"{name} of {form.kind}", where if answer else "")
