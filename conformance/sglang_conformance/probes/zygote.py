"""The first warm process: started afresh, imports torch with one thread, then forks a server for each connection.

Started by :func:`sglang_conformance.probes.client.start`; never forked from pytest, whose process may have threads
and has conftests and plugins loaded.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from .channel import Channel
from .server import ORPHANS_GRACE, adopt_orphans, die_with_parent, end_orphans, serve
from .world import World

ENVIRONMENT = {
    # One thread: forks of a process with threads may deadlock, and probes must not fight for the cores.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Asking torch whether CUDA is there must not initialise CUDA, which no fork survives.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
"""Variables of the zygote and of every probe."""

ENVIRONMENT_AT_START = {
    # torch is imported without the vendors' extensions that it loads by itself: they belong to the probes.
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
    # A heap of huge pages forks four times as fast: there are fewer pages to hand on (glibc 2.35; ignored before).
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Variables of the zygote while it starts; probes see what the controller's own environment has."""


def main(arguments: Sequence[str]) -> None:
    """Import the modules, then serve for ever: ``main([LISTENING_DESCRIPTOR, PARENT_PID, RESTORE, MODULE, ...])``.

    ``RESTORE`` is JSON: the controller's own values of ``ENVIRONMENT_AT_START``, null where it has none.
    """
    descriptor, parent, restore, *modules = arguments
    die_with_parent(int(parent), signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is pytest's to handle; it then ends this process
    gc.disable()  # nothing of what is imported here is to be freed
    for module in modules:
        importlib.import_module(module)
    World(json.loads(restore)).enter()
    with contextlib.suppress(KeyError):
        sys.modules["torch"].set_num_threads(1)
    gc.collect()
    gc.freeze()
    gc.enable()
    adopt_orphans()
    _listen(socket.socket(fileno=int(descriptor)))


def _listen(listener: socket.socket) -> None:
    servers: set[int] = set()
    signal.signal(signal.SIGTERM, lambda number, frame: _end(servers))
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(ChildProcessError):  # reap the servers whose connection has closed
            while ended := os.waitpid(-1, os.WNOHANG)[0]:
                servers.discard(ended)
        me = os.getpid()
        if _peer_user(connection) != os.getuid():
            connection.close()
        elif (pid := os.fork()) == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            listener.close()
            die_with_parent(me)
            serve(Channel(connection), None)
        else:
            servers.add(pid)
            connection.close()


def _end(servers: Iterable[int]) -> NoReturn:
    """End with all that came of this process: the kernel ends probes with their servers, but not what they left."""
    for pid in servers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end_orphans(grace=ORPHANS_GRACE)
    os._exit(0)


def _peer_user(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
