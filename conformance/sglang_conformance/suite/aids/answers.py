"""The kinds of answer that several areas ask for: a device, a text, a number.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import math
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
    """The int or float that was answered; a violation where it is neither, or not finite."""
    expect.instance(answer, (int, float), expected="a number")
    value: float = answer.value
    expect.that(math.isfinite(value), expected="a finite number", seen=repr(value), answer=answer)
    return value
