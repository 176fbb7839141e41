"""The first warm process: started afresh, imports torch with one thread, then forks a server for each connection.

Started by :func:`sglang_conformance.probes.client.start`; never forked from pytest, whose process may have threads
and has conftests and plugins loaded.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

from .channel import Channel
from .server import die_with_parent, serve

ENVIRONMENT = {
    # One thread: forks of a process with threads may deadlock, and probes must not fight for the cores.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Asking torch whether CUDA is there must not initialise CUDA, which no fork survives.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}


def main(arguments: Sequence[str]) -> None:
    """``zygote.main([LISTENING_DESCRIPTOR, PARENT_PID, MODULE, ...])``: import the modules, then serve for ever."""
    descriptor, parent, *modules = arguments
    die_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is pytest's to handle; it then ends this process
    with _without_device_backends():
        for module in modules:
            importlib.import_module(module)
    with contextlib.suppress(KeyError):
        sys.modules["torch"].set_num_threads(1)
    gc.collect()
    gc.freeze()
    _listen(socket.socket(fileno=int(descriptor)))


@contextlib.contextmanager
def _without_device_backends() -> Iterator[None]:
    """Import torch without the vendors' extensions that it loads by itself: they belong to the probes."""
    name = "TORCH_DEVICE_BACKEND_AUTOLOAD"
    before = os.environ.get(name)
    os.environ[name] = "0"
    yield
    if before is None:
        del os.environ[name]
    else:
        os.environ[name] = before


def _listen(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(ChildProcessError):  # reap the servers whose connection has closed
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        me = os.getpid()
        if _peer_user(connection) != os.getuid():
            connection.close()
        elif os.fork() == 0:
            listener.close()
            die_with_parent(me)
            serve(Channel(connection), None)
        else:
            connection.close()


def _peer_user(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
