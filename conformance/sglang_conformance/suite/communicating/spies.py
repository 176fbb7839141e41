"""What a communicator gives its library: each call of it, as seen between the two.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .. import expect
from ..member import Member

_WITH_A_STREAM = (
    "ncclAllReduce",
    "ncclReduce",
    "ncclBroadcast",
    "ncclAllGather",
    "ncclReduceScatter",
    "ncclSend",
    "ncclRecv",
)


@dataclass
class Seen:
    """The calls that were made, in their order: the function and its arguments as plain numbers."""

    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    def streams(self) -> list[int]:
        """The handle of the stream of each call that has one; 0 for the default stream."""
        return [given[-1] or 0 for name, given in self.calls if name in _WITH_A_STREAM]


class _Spy:
    """In place of a library: notes what is called, and passes it on."""

    def __init__(self, library: Any, seen: Seen) -> None:
        self._library = library
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._library, name)
        if not name.startswith("nccl") or not callable(found):
            return found

        def call(*given: Any, **named: Any) -> Any:
            self._seen.calls.append((name, tuple(map(_plain, (*given, *named.values())))))
            return found(*given, **named)

        return call


@contextlib.contextmanager
def on_library(communicator: Any) -> Iterator[Seen]:
    """For a while, see what a communicator calls. Declined for one that does not keep its library as SGLang's does."""
    library, seen = getattr(communicator, "nccl", None), Seen()
    if not callable(getattr(library, "ncclAllReduce", None)):
        raise expect.Declined("the communicator has no library of NCCL's API under the name nccl to be looked at")
    communicator.nccl = _Spy(library, seen)
    try:
        yield seen
    finally:
        communicator.nccl = library


def module_with_streams(member: Member) -> Any:
    """Torch's module of the device. Declined where there is one stream only, as on the host."""
    import torch

    if member.device.type == "cpu":
        raise expect.Declined("the host has no streams")
    module = torch.get_device_module(member.device)
    if not all(hasattr(module, name) for name in ("Stream", "stream", "current_stream")):
        raise expect.Declined(f"torch.{member.device.type} has no streams")
    return module


def in_a_thread(member: Member, action: Callable[[], Any]) -> Any:
    """What an action gives in a thread of its own; raises what it raises."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(_on_device, member, action).result(member.seconds)


def _on_device(member: Member, action: Callable[[], Any]) -> Any:
    import torch

    torch.get_device_module(member.device).set_device(member.device)
    return action()


def handle(stream: Any, kind: str) -> int:
    """The number by which the device's libraries know a stream. Declined where it tells none."""
    for name in ("cuda_stream", f"{kind}_stream", "native_handle"):
        found = getattr(stream, name, None)
        if found is not None:
            return int(found)
    raise expect.Declined(f"streams of {kind} tell no handle: neither cuda_stream nor {kind}_stream nor native_handle")


def _plain(argument: Any) -> Any:
    return argument.value if isinstance(argument, ctypes._SimpleCData) else argument
