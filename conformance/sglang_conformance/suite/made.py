"""FAC: what compile backends, quantizations and speculative hooks of the platform's compute, as the core uses them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from . import expect
from .aids import compiled, operands, parts, quantized, worker
from .aids.resolution import overrides
from .aids.uncovered import answer_of, maker_of
from .declare import in_probe, requirement, spawns


@requirement("FAC-049")
@spawns  # nothing, but torch takes as long to import its compiler
@in_probe
def test_compile_backend_computes_the_same(platform: Any) -> str:
    worker.start(platform)
    answer = expect.ask(platform, "get_compile_backend", None)
    if compiled.is_torchs_own(platform, answer.value):
        return f"{answer.value} is torch's own, and makes no code for a vendor's device: nothing was compiled"
    compiled.compiles(platform, answer)
    return f"compiled with {expect.show(answer.value, 60)}"


@requirement("FAC-050")
@in_probe
def test_piecewise_backend_computes_its_piece(platform: Any) -> None:
    member = "get_piecewise_backend_cls"
    if not overrides(platform, member):
        raise expect.Declined(f"{member} is SGLang's own default")
    answer = maker_of(platform, member, or_none=True)
    if answer is None:
        raise expect.Declined(f"{member}() gives no backend")
    compiled.pieces(platform, answer)


@requirement("FAC-051")
@in_probe
def test_quantized_linear_layer_computes_its_product(platform: Any, contract: Contract) -> str:
    done = [each.name for each in quantized.schemes(platform, contract) if quantized.computes(platform, each)]
    if not done:
        raise expect.Declined("the platform has no quantization of its own for the settings and the layer at hand")
    return f"linear layers of {', '.join(done)}"


@requirement("FAC-052")
@in_probe
@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=4), drafts=st.integers(1, 6), seed=operands.SEEDS)
def test_speculative_cache_locations_are_those_of_the_rows(
    platform: Any, lengths: list[int], drafts: int, seed: int
) -> None:
    import torch

    answer = answer_of(platform, "get_speculative_cache_locs_fn")
    if answer is None or answer.value is None:
        raise expect.Declined("get_speculative_cache_locs_fn() leaves it to SGLang")
    device = operands.bench(platform, "float32").device
    drawn = torch.Generator().manual_seed(seed)
    rows = torch.randperm(6, generator=drawn)[: len(lengths)]
    table = torch.randperm(6 * 32, generator=drawn).view(6, 32).to(torch.int32)
    start = torch.tensor(lengths, dtype=torch.int64)
    call = f"the function of get_speculative_cache_locs_fn(), from {lengths} on, {drafts} each"
    seen = parts.attempt(
        call,
        lambda: answer.value(
            req_pool_indices=rows.to(device),
            req_to_token=table.to(device),
            start_offset=start.to(device),
            end_offset=(start + drafts).to(device),
            batch_size=len(lengths),
            draft_token_num=drafts,
            device=platform.device_type,
        ),
        where=expect.place(answer.value) or answer.where,
    )
    spans = zip(rows.tolist(), lengths, strict=True)
    true = [slot for row, first in spans for slot in table[row, first : first + drafts].tolist()]
    where = expect.place(answer.value) or answer.where
    cause = "the slots of each request's next tokens, from its row, one request after another"
    expect.equal([int(slot) for slot in worker.values(seen)], true, call=call, where=where, cause=cause)
