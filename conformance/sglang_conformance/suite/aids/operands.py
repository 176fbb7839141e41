"""What operators are given, and how what they give is held against float64.

How far a right operator's numbers may be off is as in a served model (:mod:`...journey.tolerances`), for one operator
alone.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ...journey import tolerances
from .. import expect
from . import parts, within, worker
from .resolution import is_sglangs

DTYPES = ("float32", "bfloat16")
ROWS = st.sampled_from([0, 1, 2, 5, 17, 64])
WIDTHS = st.sampled_from([8, 24, 64, 80, 128])  # of heads and hidden states: no model's is odd
SEEDS = st.integers(0, 99)
POSITIONS = 128


@dataclass(frozen=True)
class Numbers:
    """Drawn numbers: on the device, in a type, and as float64."""

    there: Any
    true: Any


@dataclass(frozen=True)
class Bench:
    """Where operators run, and on what type of numbers."""

    device: Any
    dtype: str

    def made(self, name: str, kind: Callable[[], Any]) -> Any:
        """An operator, made as a model's are: with the device as torch's default."""
        import torch

        def make() -> Any:
            before = torch.get_default_dtype()
            torch.set_default_dtype(getattr(torch, self.dtype))
            try:
                with torch.device(self.device):
                    return kind()
            finally:
                torch.set_default_dtype(before)

        return parts.attempt(name, make)

    def drawn(
        self, shape: tuple[int, ...], seed: int, *, part: bool = False, center: float = 0.0, scale: float = 1.0
    ) -> Numbers:
        """Numbers about ``center``; ``part``: the tensor is a part of a wider one, as after a projection."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        wide = (*shape[:-1], shape[-1] + 16) if part else shape
        whole = (torch.randn(wide, generator=generator) * scale + center).to(getattr(torch, self.dtype))
        cut = whole[..., 8 : 8 + shape[-1]] if part else whole
        there = whole.to(self.device)
        return Numbers(there[..., 8 : 8 + shape[-1]] if part else there, cut.double().numpy())

    def set(self, parameter: Any, seed: int) -> Any:
        """Give a parameter drawn numbers near 1; these, as float64."""
        numbers = self.drawn(tuple(parameter.shape), seed, center=1.0)
        parameter.data.copy_(numbers.there)
        return numbers.true


def bench(platform: Any, dtype: str) -> Bench:
    """The first device of the platform, made current."""
    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    within.settle(device)
    return Bench(device, dtype)


def run(operator: Any, call: str, *given: Any, **named: Any) -> Any:
    """What an operator gives; a violation where it raises."""
    import torch

    def compute() -> Any:
        with torch.no_grad():
            return operator(*given, **named)

    return parts.attempt(call, compute, where=by(operator))


def by(operator: Any) -> str:
    """The line of what runs an operator, where it is the vendor's."""
    method = getattr(operator, "_forward_method", None) or operator
    function = getattr(method, "__func__", method)
    if isinstance(function, types.FunctionType):
        return "" if function.__module__.partition(".")[0] == "sglang" else expect.place(function)
    return "" if is_sglangs(type(operator)) else expect.place(type(operator))


def close(bench: Bench, seen: Any, true: Any, kind: str, call: str, where: str) -> None:
    """Fail unless a tensor on the device, of the type, holds what float64 gives, but for rounding."""
    import numpy as np
    import torch

    told = f"a tensor of {list(seen.shape)}, {seen.dtype}, on {seen.device.type}"
    wanted = f"a tensor of {list(true.shape)}, {getattr(torch, bench.dtype)}, on {torch.device(bench.device).type}"
    expect.that(told == wanted, expected=wanted, seen=told, call=call, where=where)
    if not true.size:
        return
    rows = true.reshape(-1, true.shape[-1])
    found = seen.detach().cpu().double().numpy().reshape(rows.shape)
    off = np.abs(found - rows)
    ratio = np.where(np.isfinite(found), off / allowed(rows, bench.dtype, kind), np.inf)
    row, column = np.unravel_index(int(ratio.argmax()), ratio.shape)
    expect.that(
        ratio[row, column] <= 1,
        expected=f"{rows[row, column]:.6g} within {allowed(rows, bench.dtype, kind)[row, column]:.2g}",
        seen=f"{found[row, column]:.6g} in row {row}, column {column}",
        call=call,
        where=where,
        cause="what runs under the key of get_dispatch_key_name() computes something else",
    )


def allowed(rows: Any, dtype: str, kind: str) -> Any:
    """How far each number of some rows may be off, for an operator of this kind."""
    import numpy as np

    sums = 2.0 + rows.shape[1] ** 0.5 + (POSITIONS if kind == "rope" else 0)  # an angle is off by its position's part
    each = tolerances.roundoff(dtype) + tolerances.roundoff("float32") * sums
    usual = np.sqrt(np.mean(np.square(rows), axis=1, keepdims=True))
    size = np.maximum(np.abs(rows), usual) + 1e-30
    return tolerances.RESERVE_ALONE * each * tolerances.ROUNDINGS[kind] ** 0.5 * size


def unchanged(given: Numbers, name: str, call: str, where: str, cause: str) -> None:
    """Fail where an operator has changed what it was given."""
    seen = given.there.detach().cpu().double().numpy()
    same = bool((seen == given.true).all())
    expect.that(same, expected=f"{name} as it was", seen=f"{name} is changed", call=call, where=where, cause=cause)
