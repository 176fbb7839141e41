"""Slots for the tokens of a batch, written into the rows of its requests; what is kept is evicted where they lack.

A batch is SGLang's ScheduleBatch: ``reqs``, ``prefix_lens``, ``extend_lens``, ``extend_num_tokens``, ``seq_lens`` and
``req_pool_indices`` on the device, ``seq_lens_cpu``, ``device``, ``tree_cache`` and ``req_to_token_pool``. What a batch
of SGLang has besides (sliding windows, speculation, encoders) is not looked at.

Facts: srt/mem_cache/common.py of SGLang 0.5.11, 0.5.13 and 0.5.14, srt/mem_cache/allocation.py of 0.5.16, 0.5.17,
0.5.18 and 0.5.23.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch

from .._contract import since
from .._released import Lifetime, Parameters, released

HOME = "allocation" if since("0.5.16") else "common"
"""The module of these functions: see that of :mod:`.common` for what stayed there."""

logger = logging.getLogger(f"sglang.srt.mem_cache.{HOME}")

F = TypeVar("F", bound=Callable[..., Any])

_BACKUP = {"backup_state": Lifetime(gone="0.5.17")}
_BATCH = Lifetime("0.5.14")
_LATER = {"req_pool_indices": _BATCH, "dsv4_state_lens": Lifetime("0.5.14", "0.5.18"), "batch": _BATCH}


def here(function: F) -> F:
    """Decorator: the function is of the module that the table's release has it in."""
    function.__module__ = f"sglang.srt.mem_cache.{HOME}"
    return function


def _home() -> Any:
    """That module, whose functions are looked up when they are called, since hooks replace them there."""
    if since("0.5.16"):
        from . import allocation

        return allocation
    from . import common

    return common


def _evict(tree_cache: Any, num_tokens: int) -> None:
    _home().evict_from_tree_cache(tree_cache, num_tokens)


@here
def get_last_loc(
    req_to_token: torch.Tensor, req_pool_indices_tensor: torch.Tensor, prefix_lens_tensor: torch.Tensor
) -> torch.Tensor:
    """The slot of each request's last token so far; -1 where it has none."""
    last = req_to_token[req_pool_indices_tensor, (prefix_lens_tensor - 1).clamp(min=0)]
    return torch.where(prefix_lens_tensor > 0, last, torch.full_like(last, -1))


@here
@released(Parameters(_BACKUP))
def alloc_token_slots(tree_cache: Any, num_tokens: int, backup_state: bool = False) -> Any:
    """So many slots, one by one; RuntimeError where they cannot be had.

    With ``backup_state``, the allocator's state before is given too.
    """
    allocator = tree_cache.token_to_kv_pool_allocator
    _evict(tree_cache, num_tokens)
    state = allocator.backup_state() if backup_state else None
    slots = allocator.alloc(num_tokens)
    if slots is None:
        _out_of_memory("Out", num_tokens, tree_cache)
    return (slots, state) if backup_state else slots


@here
@released(Parameters({**_BACKUP, **_LATER}))
def alloc_paged_token_slots_extend(
    tree_cache: Any,
    prefix_lens: torch.Tensor,
    prefix_lens_cpu: torch.Tensor,
    seq_lens: torch.Tensor,
    seq_lens_cpu: torch.Tensor,
    last_loc: torch.Tensor,
    extend_num_tokens: int,
    backup_state: bool = False,
    req_pool_indices: torch.Tensor | None = None,
    dsv4_state_lens: Any = None,
    batch: Any = None,
) -> Any:
    """The slots of prompts, page by page; RuntimeError where they cannot be had.

    As many are to be free as if each request began a page.
    """
    allocator = tree_cache.token_to_kv_pool_allocator
    wanted = extend_num_tokens + len(seq_lens_cpu) * allocator.page_size
    if since("0.5.23"):
        wanted = allocator.get_extend_allocation_demand(
            prefix_lens_cpu, seq_lens_cpu, conservative_num_tokens=wanted, shard_size=1
        )
    _evict(tree_cache, wanted)
    state = allocator.backup_state() if backup_state else None
    slots = allocator.alloc_extend(prefix_lens, prefix_lens_cpu, seq_lens, seq_lens_cpu, last_loc, extend_num_tokens)
    if slots is None:
        _out_of_memory("Prefill out", extend_num_tokens, tree_cache)
    return (slots, state) if backup_state else slots


@here
@released(Parameters(_LATER))
def alloc_paged_token_slots_decode(
    tree_cache: Any,
    seq_lens: torch.Tensor,
    seq_lens_cpu: torch.Tensor,
    last_loc: torch.Tensor,
    token_per_req: int = 1,
    req_pool_indices: torch.Tensor | None = None,
    dsv4_state_lens: Any = None,
    batch: Any = None,
) -> torch.Tensor:
    """A slot for each request's next token, page by page; RuntimeError where they cannot be had."""
    allocator = tree_cache.token_to_kv_pool_allocator
    _evict(tree_cache, len(seq_lens) * allocator.page_size)
    slots: torch.Tensor | None = allocator.alloc_decode(seq_lens, seq_lens_cpu, last_loc)
    if slots is None:
        _out_of_memory("Decode out", len(seq_lens) * token_per_req, tree_cache)
    return slots


def _out_of_memory(what: str, wanted: int, tree_cache: Any) -> NoReturn:
    left = tree_cache.available_and_evictable_str()
    message = f"{what} of memory. Try to lower your batch size.\n{wanted} tokens were wanted.\n{left}"
    logger.error(message)
    tree_cache.pretty_print()
    raise RuntimeError(message)


@here
def alloc_req_slots(req_to_token_pool: Any, reqs: list[Any], tree_cache: Any) -> list[int]:
    """A row for each request; RuntimeError where rows lack."""
    rows: list[int] | None = req_to_token_pool.alloc(reqs)
    if rows is None:
        raise RuntimeError(
            f"alloc_req_slots runs out of memory: {len(reqs)} requests, {req_to_token_pool.available_size()} rows; "
            "set a smaller number for --max-running-requests"
        )
    return rows


@here
def write_cache_indices(
    out_cache_loc: torch.Tensor,
    req_pool_indices_tensor: torch.Tensor,
    req_pool_indices_cpu: torch.Tensor,
    prefix_lens_tensor: torch.Tensor,
    prefix_lens_cpu: torch.Tensor,
    seq_lens_tensor: torch.Tensor,
    seq_lens_cpu: torch.Tensor,
    extend_lens_tensor: torch.Tensor,
    extend_lens_cpu: torch.Tensor,
    prefix_tensors: list[torch.Tensor],
    req_to_token_pool: Any,
) -> None:
    """Write each request's row: the slots that it begins with, and its part of the new ones."""
    new = torch.split(out_cache_loc.to(torch.int32), extend_lens_cpu.tolist())
    rows = zip(req_pool_indices_cpu.tolist(), prefix_lens_cpu.tolist(), seq_lens_cpu.tolist(), strict=True)
    for (row, prefix, length), begins, slots in zip(rows, prefix_tensors, new, strict=True):
        if prefix:
            req_to_token_pool.write((row, slice(0, prefix)), begins.to(torch.int32))
        req_to_token_pool.write((row, slice(prefix, length)), slots)


def _begins_with(batch: Any, req: Any) -> torch.Tensor:
    """The slots of what a request begins with: those in its row, where it has one, or those that the cache keeps."""
    if not since("0.5.22"):
        begins: torch.Tensor = req.prefix_indices
    elif req.kv.req_pool_idx is not None:
        row = batch.req_to_token_pool.req_to_token[req.kv.req_pool_idx]
        begins = row[: req.prefix_len].to(torch.int64)
    elif req.prefix_len:
        begins = batch.tree_cache.prefix_device_indices(req)
    else:
        begins = torch.empty((0,), dtype=torch.int64)
    return begins


@here
def alloc_for_extend(batch: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Rows and slots for prompts, or for further parts of them.

    Gives the new slots, the rows on the device, and on the host: as a list before 0.5.13, as a tensor since. Raises
    RuntimeError where memory lacks.
    """
    home, device = _home(), batch.device
    begins = [_begins_with(batch, req) for req in batch.reqs]
    prefix_cpu, extend_cpu = (torch.tensor(lens, dtype=torch.int64) for lens in (batch.prefix_lens, batch.extend_lens))
    prefix, extend = prefix_cpu.to(device), extend_cpu.to(device)
    rows = home.alloc_req_slots(batch.req_to_token_pool, batch.reqs, batch.tree_cache)
    rows_cpu = torch.tensor(rows, dtype=torch.int64)
    rows_device = rows_cpu.to(device)
    if batch.tree_cache.page_size == 1:
        slots = home.alloc_token_slots(batch.tree_cache, batch.extend_num_tokens)
    else:
        none = torch.full((1,), -1, dtype=torch.int64, device=device)
        slots = home.alloc_paged_token_slots_extend(
            tree_cache=batch.tree_cache,
            prefix_lens=prefix,
            prefix_lens_cpu=prefix_cpu,
            seq_lens=batch.seq_lens,
            seq_lens_cpu=batch.seq_lens_cpu,
            last_loc=torch.cat([each[-1:].to(torch.int64) if len(each) else none for each in begins]),
            extend_num_tokens=batch.extend_num_tokens,
        )
    home.write_cache_indices(
        slots,
        rows_device,
        rows_cpu,
        prefix,
        prefix_cpu,
        batch.seq_lens,
        batch.seq_lens_cpu,
        extend,
        extend_cpu,
        begins,
        batch.req_to_token_pool,
    )
    for req, length in zip(batch.reqs, batch.seq_lens_cpu.tolist(), strict=True):
        req.kv.kv_allocated_len = req.kv.kv_committed_len = length
    return slots, rows_device, rows_cpu if since("0.5.13") else rows


@here
def alloc_for_decode(batch: Any, token_per_req: int) -> torch.Tensor:
    """A slot for each request's next token; RuntimeError where memory lacks."""
    home, pool = _home(), batch.req_to_token_pool
    if batch.tree_cache.page_size == 1:
        slots = home.alloc_token_slots(batch.tree_cache, len(batch.reqs) * token_per_req)
    else:
        slots = home.alloc_paged_token_slots_decode(
            tree_cache=batch.tree_cache,
            seq_lens=batch.seq_lens + token_per_req,
            seq_lens_cpu=batch.seq_lens_cpu + token_per_req,
            last_loc=pool.req_to_token[batch.req_pool_indices, batch.seq_lens - 1],
            token_per_req=token_per_req,
        )
    pool.write((batch.req_pool_indices, batch.seq_lens.clone()), slots.to(torch.int32))
    for req in batch.reqs:
        req.kv.kv_allocated_len += token_per_req
        req.kv.kv_committed_len += token_per_req
    token_slots: torch.Tensor = slots
    return token_slots
