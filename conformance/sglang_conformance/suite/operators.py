"""FAC: SGLang's operators, run as the platform's dispatch key says, and held against float64.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from . import expect
from .aids import operands, parts
from .aids.operands import DTYPES, POSITIONS, ROWS, SEEDS, WIDTHS, Bench
from .declare import in_probe, requirement

EPS = 1e-6
KINDS = st.sampled_from(DTYPES)
_FIRST = "a model's first layer keeps the very tensor as its residual"
_EACH = "every layer is handed the same tensor"


@requirement("FAC-042")
@in_probe
@given(rows=ROWS, width=WIDTHS, dtype=KINDS, seed=SEEDS, part=st.booleans(), scale=st.sampled_from([1.0, 1e-3]))
def test_norm_is_right(platform: Any, rows: int, width: int, dtype: str, seed: int, part: bool, scale: float) -> None:
    from ..oracles.decoders import arithmetic

    bench = operands.bench(platform, dtype)
    norm = _norm(bench, width)
    weight = bench.set(norm.weight, seed + 1)
    x = bench.drawn((rows, width), seed, part=part, scale=scale)
    call = f"RMSNorm({width})({dtype} {[rows, width]} about {scale:g}{', not contiguous' if part else ''})"
    seen = operands.run(norm, call, x.there)
    operands.close(bench, seen, arithmetic.normed(x.true, weight, EPS), "norm", call, operands.by(norm))


@requirement("FAC-043")
@in_probe
@given(rows=ROWS, width=WIDTHS, dtype=KINDS, seed=SEEDS)
def test_norm_with_residual_is_right(platform: Any, rows: int, width: int, dtype: str, seed: int) -> None:
    from ..oracles.decoders import arithmetic

    bench = operands.bench(platform, dtype)
    norm = _norm(bench, width)
    weight = bench.set(norm.weight, seed + 1)
    x, residual = bench.drawn((rows, width), seed), bench.drawn((rows, width), seed + 2)
    call = f"RMSNorm({width})({dtype} {[rows, width]}, residual)"
    seen = operands.run(norm, call, x.there, residual.there)
    where, whole = operands.by(norm), x.true + residual.true
    pair = isinstance(seen, tuple) and len(seen) == 2
    expect.that(pair, expected="the norm and the sum", seen=expect.show(seen), call=call, where=where)
    operands.close(bench, seen[1], whole, "residual", f"{call}[1], the sum", where)
    operands.close(bench, seen[0], arithmetic.normed(whole, weight, EPS), "norm", f"{call}[0], the norm", where)


@requirement("FAC-044")
@in_probe
@given(rows=ROWS, width=WIDTHS, dtype=KINDS, seed=SEEDS)
def test_gated_activation_is_right(platform: Any, rows: int, width: int, dtype: str, seed: int) -> None:
    from ..oracles.decoders import arithmetic

    bench = operands.bench(platform, dtype)
    activation = bench.made("SiluAndMul()", lambda: parts.part("SiluAndMul", "srt.layers.activation")())
    x = bench.drawn((rows, 2 * width), seed)
    call = f"SiluAndMul()({dtype} {[rows, 2 * width]})"
    seen = operands.run(activation, call, x.there)
    operands.close(bench, seen, arithmetic.activated(x.true), "activation", call, operands.by(activation))


@requirement("FAC-045")
@in_probe
@given(
    rows=st.sampled_from([1, 2, 5, 17, 64]),  # SGLang's own cannot be given none
    heads=st.sampled_from([(1, 1), (4, 2), (6, 3)]),
    width=st.sampled_from([16, 64]),
    neighbours=st.booleans(),
    whole=st.booleans(),
    dtype=KINDS,
    seed=SEEDS,
)
def test_rotary_embedding_is_right(
    platform: Any,
    rows: int,
    heads: tuple[int, int],
    width: int,
    neighbours: bool,
    whole: bool,
    dtype: str,
    seed: int,
) -> None:
    bench = operands.bench(platform, dtype)
    turned = width if whole else width // 2
    rope, positions = _rope(bench, width, turned, not neighbours), _positions(bench, rows, seed)
    sizes = [each * width for each in heads]
    given = [bench.drawn((rows, size), seed + nth, part=True) for nth, size in enumerate(sizes)]
    call = f"RotaryEmbedding({width}, {turned}, {'neighbours' if neighbours else 'halves'})({dtype} {rows} tokens)"
    seen = operands.run(rope, call, positions, *(each.there for each in given))
    for name, got, each, count in zip(("queries", "keys"), seen, given, heads, strict=True):
        true = _turned(each.true, positions.cpu().numpy(), count, turned, neighbours)
        operands.close(bench, got, true, "rope", f"{call}: the {name}", operands.by(rope))


@requirement("FAC-046")
@in_probe
@given(rows=ROWS, top=st.sampled_from([1, 2, 4]), renormalize=st.booleans(), dtype=KINDS, seed=SEEDS)
def test_choice_of_experts_is_right(
    platform: Any, rows: int, top: int, renormalize: bool, dtype: str, seed: int
) -> None:
    bench = operands.bench(platform, dtype)
    choose, states, logits, true = _choice(bench, rows, top, renormalize, seed)
    call = f"TopK({top}, renormalize={renormalize})({dtype} {[rows, 8]})"
    seen = operands.run(choose, call, states.there, logits)
    where = operands.by(choose)
    numbers, weights = seen.topk_ids.cpu().tolist(), seen.topk_weights.cpu().tolist()
    expect.equal(len(numbers), rows, call=f"{call}: tokens", where=where)
    for row, (own, shares, wanted) in enumerate(zip(numbers, weights, true, strict=True)):
        found = dict(zip(own, shares, strict=True))
        right = found.keys() == wanted.keys() and all(abs(found[each] - wanted[each]) < 1e-2 for each in wanted)
        expect.that(
            right and len(own) == top,
            expected=_told(wanted),
            seen=_told(found),
            call=f"{call}: experts of token {row}",
            where=where,
        )


@requirement("FAC-047")
@in_probe
@given(rows=st.sampled_from([1, 5]), dtype=KINDS, seed=SEEDS)
def test_operators_leave_what_is_used_again(platform: Any, rows: int, dtype: str, seed: int) -> None:
    bench = operands.bench(platform, dtype)
    norm = _norm(bench, 64)
    x = bench.drawn((rows, 64), seed)
    operands.run(norm, "RMSNorm(64)(x)", x.there)
    operands.unchanged(x, "x", "RMSNorm(64)(x)", operands.by(norm), _FIRST)
    rope, positions = _rope(bench, 16, 16, True), _positions(bench, rows, seed)
    before = positions.cpu().tolist()
    operands.run(rope, "RotaryEmbedding(16)(positions, ...)", positions, *(bench.drawn((rows, 32), 1).there,) * 2)
    call = "positions after RotaryEmbedding(16)(positions, ...)"
    expect.equal(positions.cpu().tolist(), before, call=call, where=operands.by(rope), cause=_EACH)
    choose, states, logits, _ = _choice(bench, rows, 2, True, seed)
    operands.run(choose, "TopK(2)(states, logits)", states.there, logits)
    cause = "the experts are handed the same states"
    operands.unchanged(states, "states", "TopK(2)(states, logits)", operands.by(choose), cause)


@requirement("FAC-048")
@in_probe
@given(rows=st.sampled_from([1, 3, 8]), seed=SEEDS, top=st.integers(1, 6), share=st.sampled_from([0.3, 0.7, 1.0]))
def test_tokens_are_drawn_of_those_allowed(platform: Any, rows: int, seed: int, top: int, share: float) -> None:
    import torch

    bench = operands.bench(platform, "float32")
    scores = bench.drawn((rows, 24), seed)
    draw = parts.part("top_k_top_p_min_p_sampling_from_probs_torch", "srt.layers.sampler")
    probabilities = torch.softmax(scores.there * 2, dim=-1)
    allowed = _allowed(torch.softmax(torch.from_numpy(scores.true) * 2, dim=-1).tolist(), top, share)

    def row(value: float, kind: Any) -> Any:
        return torch.full((rows,), value, dtype=kind, device=bench.device)

    tops, shares, least = row(top, torch.int32), row(share, torch.float32), row(0.0, torch.float32)
    call = f"sampling with top_k={top}, top_p={share} of {rows} rows"
    positions = torch.zeros(rows, dtype=torch.int64, device=bench.device)
    seen = parts.attempt(call, lambda: draw(probabilities, tops, shares, least, False, None, positions))
    for number, (token, may) in enumerate(zip(seen.cpu().tolist(), allowed, strict=True)):
        expect.that(token in may, expected=f"one of {sorted(may)}", seen=f"{token}", call=f"{call}: row {number}")


@requirement("FAC-048")
@in_probe
def test_tokens_are_drawn_by_their_probabilities(platform: Any) -> None:
    import torch

    bench = operands.bench(platform, "float32")
    draw = parts.part("sampling_from_probs_torch", "srt.layers.sampler")
    shares, rows = (0.5, 0.0, 0.3, 0.2), 2048
    probabilities = torch.tensor([shares] * rows, dtype=torch.float32, device=bench.device)
    call = f"sampling_from_probs_torch({rows} rows of {list(shares)})"
    seen = parts.attempt(call, lambda: draw(probabilities)).cpu().tolist()
    for token, share in enumerate(shares):
        wanted, spread = rows * share, 6 * (rows * share * (1 - share)) ** 0.5
        count = seen.count(token)
        told = f"token {token} about {wanted:.0f} times, within {spread:.0f}"
        expect.that(abs(count - wanted) <= spread, expected=told, seen=f"{count} times", call=call)


def _norm(bench: Bench, width: int) -> Any:
    return bench.made(f"RMSNorm({width})", lambda: parts.part("RMSNorm", "srt.layers.layernorm")(width, eps=EPS))


def _rope(bench: Bench, width: int, turned: int, halves: bool) -> Any:
    import torch

    kind = parts.part("RotaryEmbedding", "srt.layers.rotary_embedding", "srt.layers.rotary_embedding.base")
    dtype = getattr(torch, bench.dtype)
    return bench.made(f"RotaryEmbedding({width}, ...)", lambda: kind(width, turned, POSITIONS, 10000, halves, dtype))


def _positions(bench: Bench, rows: int, seed: int) -> Any:
    import torch

    drawn = torch.randint(0, POSITIONS, (rows,), generator=torch.Generator().manual_seed(seed))
    return drawn.to(bench.device)


def _turned(values: Any, positions: Any, heads: int, turned: int, neighbours: bool) -> Any:
    import numpy as np

    from ..oracles.decoders import arithmetic

    apart = values.reshape(len(values), heads, -1)
    own = arithmetic.rotated(apart[..., :turned], positions, 10000.0, paired=neighbours)
    return np.concatenate((own, apart[..., turned:]), axis=-1).reshape(values.shape)


def _choice(bench: Bench, rows: int, top: int, renormalize: bool, seed: int) -> tuple[Any, Any, Any, Any]:
    """The operator, hidden states, logits that differ clearly, and each token's experts with their weights."""
    import numpy as np
    import torch

    from ..oracles.decoders import arithmetic

    kind = parts.part("TopK", "srt.layers.moe.topk")
    choose = bench.made(f"TopK({top})", lambda: kind(top_k=top, layer_id=0, renormalize=renormalize))
    generator = np.random.Generator(np.random.PCG64(seed))
    logits = np.array([generator.permutation(8) / 4.0 for _ in range(rows)]).reshape(rows, 8)
    true = []
    for shares in arithmetic.softmax(logits) if rows else ():
        best = np.argsort(-shares)[:top]
        whole = float(shares[best].sum()) if renormalize else 1.0
        true.append({int(each): float(shares[each]) / whole for each in best})
    there = torch.from_numpy(logits).to(getattr(torch, bench.dtype)).to(bench.device)
    return choose, bench.drawn((rows, 16), seed), there, true


def _allowed(probabilities: list[list[float]], top: int, share: float) -> list[set[int]]:
    """Those of each row that may be drawn: so many of the likeliest, until they make up the share."""
    allowed = []
    for row in probabilities:
        best, whole = sorted(range(len(row)), key=lambda each: -row[each])[:top], 0.0
        may = set()
        for each in best:
            if whole > share + 1e-6:
                break
            may.add(each)
            whole += row[each]
        allowed.append(may)
    return allowed


def _told(experts: dict[int, float]) -> str:
    return ", ".join(f"{number} by {share:.3f}" for number, share in sorted(experts.items()))
