"""Backends for torch.compile, as a platform names or gives them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from .. import expect
from .resolution import start_device

# The contract's own example of a mode (SGLang 0.5.23, srt/platforms/interface.py), and one that nobody knows.
MODES = ("npugraph_ex", "unknown-mode")

# Backends that come with torch: to ask torch for one of them would only cost its import.
_TORCHS_OWN = ("eager", "aot_eager", "inductor", "cudagraphs")


def check_usable(answer: expect.Answer) -> None:
    """Fail unless the answer is of a kind that torch.compile takes."""
    expect.that(
        (isinstance(answer.value, str) and answer.value) or callable(answer.value),
        expected="the name of a torch.compile backend, or the backend itself; 'eager' where there is none",
        seen=expect.show(answer.value),
        answer=answer,
    )


def check_known(platform: Any, answer: expect.Answer) -> None:
    """Fail where torch does not know the backend that the answer names, once the platform's device is started."""
    name = answer.value
    if not isinstance(name, str) or name in _TORCHS_OWN:
        return
    start_device(platform)
    try:
        _decorate("eager")
    except Exception as error:
        raise expect.NotCovered(f"torch.compile does not work here: {error}") from error
    expect.attempt(
        f"torch.compile(function, backend={name!r})",
        lambda: _decorate(name),
        where=answer.where,
        cause="misspelt, or never registered: give an entry point in torch_dynamo_backends, or the backend itself",
    )


def _decorate(backend: str) -> None:
    """Have torch look the backend up, as it does where a function is decorated; nothing is compiled yet."""
    import torch

    torch.compile(lambda tensor: tensor, backend=backend)
