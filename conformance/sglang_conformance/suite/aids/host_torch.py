"""What torch computes on the host, to see whether it still does so.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def computed() -> dict[str, list[Any]]:
    """What workers use of torch on the host, by the call, with its result; what is drawn is from one seed."""
    import torch

    scores = torch.linspace(-3.0, 3.0, 24).reshape(4, 6).sin() * 2
    shares = torch.softmax(scores, dim=-1)
    calls: dict[str, Callable[[], Any]] = {
        "torch.multinomial": lambda: torch.multinomial(shares, 5),
        "torch.rand": lambda: torch.rand(8),
        "torch.randn": lambda: torch.randn(8),
        "torch.randint": lambda: torch.randint(0, 1000, (8,)),
        "torch.randperm": lambda: torch.randperm(16),
        "Tensor.exponential_": lambda: torch.empty(8).exponential_(),
        "torch.softmax": lambda: shares,
        "torch.argmax": lambda: torch.argmax(scores, dim=-1),
        "torch.topk": lambda: torch.topk(scores, 3).indices,
        "torch.sort": lambda: torch.sort(scores, descending=True).indices,
        "torch.cumsum": lambda: torch.cumsum(shares, dim=-1),
        "torch.matmul": lambda: scores @ scores.T,
        "torch.where": lambda: torch.where(scores > 0, scores, -scores),
        "torch.nn.functional.linear": lambda: torch.nn.functional.linear(scores, scores),
        "Tensor.to": lambda: scores.to(torch.bfloat16).float(),
    }
    return {call: _from_one_seed(compute) for call, compute in calls.items()}


def differing(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> list[str]:
    """The calls that give something else: other numbers, or further off than another order of summing makes them."""
    return [call for call, numbers in before.items() if not _alike(numbers, after[call])]


def _from_one_seed(compute: Callable[[], Any]) -> list[Any]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        numbers: list[Any] = compute().flatten().tolist()
    return numbers


def _alike(before: list[Any], after: list[Any]) -> bool:
    close = (abs(one - other) <= 1e-4 * max(1.0, abs(one)) for one, other in zip(before, after, strict=False))
    return len(before) == len(after) and all(close)
