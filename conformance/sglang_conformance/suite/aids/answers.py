"""The kinds of answer that several areas ask for: a device, a text, a number.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

from .. import expect


def device(answer: expect.Answer) -> Any:
    """The torch device that was answered, as an object or by its name; a violation where it is neither."""
    import torch

    value = answer.value
    expect.instance(answer, (torch.device, str), expected="a torch.device, or its name")
    return expect.attempt(f"torch.device({value!r})", lambda: torch.device(value), where=answer.where).value


def text(answer: expect.Answer) -> str:
    """The text that was answered; a violation where it is none, or blank."""
    expect.instance(answer, str)
    value: str = answer.value
    expect.that(value.strip(), expected="a text that says something", seen=repr(value), answer=answer)
    return value


def number(answer: expect.Answer) -> float:
    """The number that was answered; a violation where it is none, or not finite.

    SGLang only computes with it, so any type will do that computes as Python's do, NumPy's among them; a bool is none.
    """
    value = _plain(answer.value)
    seen = f"{expect.show(answer.value)} ({type(answer.value).__name__})"
    if value is None:
        expect.fail(expected="a number", seen=seen, call=answer.call, where=answer.where)
    expect.that(math.isfinite(value), expected="a finite number", seen=seen, answer=answer)
    return value


def _plain(value: Any) -> float | None:
    """The value as Python's own int or float; None where it is no number."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return float(value) if isinstance(value, Real) else None
