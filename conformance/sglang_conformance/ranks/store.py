"""Where the ranks of a group meet: a key-value store in a process of its own, on one address of this machine.

In none of the ranks, so that it outlives any of them; on a port that the system chooses, so that none is in the way.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

from ..probes.channel import ChannelError
from ..probes.client import Warm
from ..probes.result import ZygoteError
from ..probes.server import Probe

_JOB = "sglang_conformance.ranks.store:keep"
LOOPBACK = "127.0.0.1"


class Keeper:
    """The controller's hold on the store, which listens on the address of ``host`` only. Whoever makes it closes it.

    ``address`` is ``host:port``. Raises ZygoteError where the store could not be started.
    """

    def __init__(self, warm: Warm, *, host: str = LOOPBACK, seconds: float = 30.0) -> None:
        self._warm = warm
        self._child = warm.start(_JOB, {"host": host}).child()
        try:
            received = self._child.results.receive(timeout=seconds)
        except ChannelError as error:
            received = ({"failure": {"message": str(error)}}, [])
        message = received[0] if received else {"failure": {"message": "its process has ended"}}
        if "failure" in message:
            self.close()
            raise ZygoteError(f"the store in which ranks meet could not be started: {message['failure']['message']}")
        self.address = f"{host}:{message['progress']}"

    def close(self) -> None:
        """End the store."""
        self._warm.end(self._child)


def keep(probe: Probe, host: str) -> None:
    """The job of the store's process: open it, tell its port, and keep it until the controller goes away."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # Left to itself, torch's store listens on every address of the machine (torch 2.13).
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)
    port = listener.getsockname()[1]
    store = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    probe.progress(str(store.port))
    if probe.control is not None:
        probe.control.receive()


def store_of(address: str, meeting: str, seconds: float) -> Any:
    """In a rank: the part of the store that is its group's own."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    host, _, port = address.rpartition(":")
    client = TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=timedelta(seconds=seconds))
    return PrefixStore(meeting, client)
