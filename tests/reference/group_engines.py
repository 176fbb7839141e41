"""Engines of an imagined plugin, which note what they are asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class Custom:
    """A custom all-reduce that takes four elements at most."""

    disabled = False

    def __init__(self) -> None:
        self.calls: list[str] = []

    def should_custom_ar(self, tensor: Any) -> bool:
        return bool(tensor.numel() <= 4)

    def custom_all_reduce(self, tensor: Any) -> Any:
        self.calls.append("custom all-reduce")
        return tensor.clone()

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        self.calls.append("capture begins")
        yield
        self.calls.append("capture ends")


class Nccl:
    """A communicator that notes what it is asked."""

    disabled = True
    available = True

    def __init__(self, group: Any) -> None:
        self.calls: list[str] = []
        self.group = group

    @contextlib.contextmanager
    def change_state(self, enable: bool) -> Iterator[None]:
        before, self.disabled = self.disabled, not enable
        try:
            yield
        finally:
            self.disabled = before

    def all_reduce(self, tensor: Any) -> None:
        self.calls.append("all_reduce")

    def group_start(self) -> None:
        self.calls.append("start")

    def group_end(self) -> None:
        self.calls.append("end")

    def all_gather(self, output: Any, tensor: Any, sizes: Any = None) -> None:
        self.calls.append(f"all_gather sizes={sizes}")
        output.fill_(7)
