"""Pinned host memory, as SGLang stages each batch in it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from .. import expect
from . import worker


def works(platform: Any, device: Any, answer: expect.Answer) -> None:
    """A violation where torch cannot pin, which ``answer`` says it can, or a copy from there gives other values."""
    import torch

    call = f"{answer.call} is True; torch.tensor([3, 1, 2], pin_memory=True)"
    host = expect.attempt(call, lambda: torch.tensor([3, 1, 2], pin_memory=True), where=answer.where).value
    expect.equal(host.is_pinned(), True, call=f"{call}.is_pinned()", where=answer.where)
    copied = expect.attempt(
        f"{call}.to({str(device)!r}, non_blocking=True)", lambda: host.to(device, non_blocking=True)
    )
    expect.ask(platform, "synchronize")
    expect.equal(worker.values(copied.value), [3, 1, 2], call=copied.call, where=answer.where)
