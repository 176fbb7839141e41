"""Two hosts on one machine: namespaces with a network and a host name of their own, joined by a veth pair."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from import_path import TESTS, import_path
from probes.processes import MARK, comes_true, marked
from ranks.agents import SECRET
from sglang_conformance.ranks.secret import VARIABLE

DEVICE = "eth0"
LIMIT = 2.5
"""For so long, in seconds, may an agent be silent."""
_HOLD = "import socket, sys; socket.sethostname(sys.argv[1]); print(flush=True); sys.stdin.read()"


class NotPermitted(RuntimeError):
    """Hosts cannot be made here; the message says what is missing."""


@dataclass(frozen=True)
class Host:
    """A host: its namespaces live as long as the process that holds them, whose end of input is ours."""

    name: str
    address: str
    mark: str
    holder: subprocess.Popen[str]

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a process on it."""
        own = {"PYTHONPATH": import_path(TESTS), VARIABLE: SECRET, MARK: self.mark, "GLOO_SOCKET_IFNAME": DEVICE}
        return subprocess.Popen(
            [*self._inside, *command],
            env={**os.environ, **own, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, *command: str) -> None:
        """Have something done on it. Raises NotPermitted where that fails."""
        _done([*self._inside, *command])

    def kill_all(self) -> None:
        """Kill all that runs on it, at once."""
        for pid in marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--uts"]


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other. At the end nothing may run on them any more, and they are gone."""
    with contextlib.ExitStack() as undo:
        one, two = (undo.enter_context(_host(f"host{number}", f"10.77.0.{number}")) for number in (1, 2))
        pair = ["type", "veth", "peer", "name", DEVICE, "netns", str(two.holder.pid)]
        _done(["ip", "link", "add", DEVICE, "netns", str(one.holder.pid), *pair])
        for host in (one, two):
            host.do("ip", "address", "add", f"{host.address}/24", "dev", DEVICE)
            host.do("ip", "link", "set", "lo", "up")
            host.do("ip", "link", "set", DEVICE, "up")
        yield one, two


@contextlib.contextmanager
def _host(name: str, address: str) -> Iterator[Host]:
    command = ["unshare", "--net", "--uts", sys.executable, "-c", _HOLD, name]
    try:
        holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise NotPermitted(f"unshare: {error}") from error
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        if not holder.stdout.readline():
            raise NotPermitted(holder.stderr.read().strip())
        host = Host(name, address, f"{name}-{secrets.token_hex(8)}", holder)
        try:
            yield host
            assert comes_true(lambda: not marked(host.mark), 10), marked(host.mark)
        finally:
            host.kill_all()
            holder.stdin.close()
            holder.wait(10)


def _done(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError as error:
        raise NotPermitted(f"{command[0]}: {error}") from error
    if done.returncode:
        raise NotPermitted(f"{' '.join(command)}: {done.stderr.strip()}")


class Controller:
    """A controller on a host; its ranks are started once its ``address`` is known."""

    def __init__(self, host: Host, kind: str) -> None:
        self.process = host.start(
            sys.executable, "-m", "ranks.controller", f"{host.address}:0", "0.5", str(LIMIT), kind
        )
        self.address: str = self._told()["address"]

    def joined(self) -> dict[str, Any]:
        """What it knows of its ranks, once they have come."""
        return self._told()

    def ask(self, check: str, size: int, seconds: float = 20.0, **arguments: Any) -> None:
        """Have it run a check."""
        assert self.process.stdin is not None
        request = {"check": f"ranks.bodies:{check}", "arguments": arguments, "size": size, "seconds": seconds}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What came of it."""
        return self._told()

    def run(self, check: str, size: int, seconds: float = 20.0, **arguments: Any) -> dict[str, Any]:
        """Run a check: what came of it."""
        self.ask(check, size, seconds, **arguments)
        return self.answer()

    def close(self) -> None:
        """Have it say goodbye to its ranks."""
        assert self.process.communicate(timeout=30)[1] is not None

    def _told(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the controller has ended: {self.process.communicate()[1]}")
        return dict(json.loads(line))
