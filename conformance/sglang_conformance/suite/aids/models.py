"""Small models, whose outputs are known without torch: layers of equal weights, so that every output is one number.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .. import expect
from . import worker

WEIGHT, BIAS = 0.25, 0.5


def linear(widths: Sequence[int], device: Any) -> Any:
    """A torch module on the device: linear layers of the widths, with a ReLU behind each."""
    import torch

    layers: list[Any] = []
    for inputs, outputs in pairwise(widths):
        layer = torch.nn.Linear(inputs, outputs, device=device)
        with torch.no_grad():
            layer.weight.fill_(WEIGHT)
            layer.bias.fill_(BIAS)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers).eval()


def computes(model: Any, widths: Sequence[int], device: Any, *, call: str, where: str) -> None:
    """A violation where the model, given ones and given minus eights, is further than 2 % from what it should give."""
    import torch

    for start in (1.0, -8.0):
        inputs = torch.full((2, widths[0]), start, device=device)

        def outputs(inputs: Any = inputs) -> Any:
            with torch.no_grad():
                return model(inputs)

        result = expect.attempt(f"{call}; model(...)", outputs, where=where).value
        expect.equal(list(result.shape), [2, widths[-1]], call=f"{call}; the shape of model(...)", where=where)
        expected = _expected(widths, start)
        seen = [number for row in worker.values(result.float()) for number in row]
        close = all(abs(number - expected) <= 0.02 * max(1.0, abs(expected)) for number in seen)
        shown = expect.show(sorted(set(seen)))
        expect.that(close, expected=f"{expected:g} everywhere", seen=shown, call=f"{call}; model(...)", where=where)


def layout(model: Any) -> dict[str, tuple[str, list[int]]]:
    """The type and shape of each of its parameters and buffers, by name."""
    return {name: (str(value.dtype), list(value.shape)) for name, value in model.state_dict().items()}


def loads_again(model: Any, *, call: str, where: str) -> None:
    """A violation where the model does not take weights of the same names, as SGLang updates them while serving."""
    import torch

    new = {name: torch.full_like(value, 2.0) for name, value in model.state_dict().items()}
    expect.attempt(f"{call}; model.load_state_dict(...)", lambda: model.load_state_dict(new), where=where)
    seen = {number for value in model.state_dict().values() for number in worker.values(value.flatten())}
    expect.equal(seen, {2.0}, call=f"{call}; the weights after load_state_dict", where=where)


def _expected(widths: Sequence[int], start: float) -> float:
    value = start
    for inputs in widths[:-1]:
        value = max(0.0, value * WEIGHT * inputs + BIAS)
    return value
