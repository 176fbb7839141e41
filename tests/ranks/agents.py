"""Agents for the tests of clusters: real processes, and ones that only speak the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from import_path import TESTS, import_path
from probes.processes import MARK
from sglang_conformance.ranks.address import parsed
from sglang_conformance.ranks.cluster import Cluster, Patience
from sglang_conformance.ranks.handshake import Refused, introduce, line
from sglang_conformance.ranks.place import Place, place
from sglang_conformance.ranks.secret import VARIABLE
from sglang_conformance.ranks.wire import Link

SECRET = "a secret for tests only, of no use"
LIGHT = ("sglang_conformance.ranks.rank", "ranks.bodies")
WITH_TORCH = ("torch", "torch.distributed", *LIGHT)
QUICK = Patience(beat=0.5, limit=3.0, stranger=0.5)


def agent(
    address: str, rank: int, size: int, *arguments: str, secret: str = SECRET, mark: str = ""
) -> subprocess.Popen[str]:
    """An agent's process, on a host named after its rank."""
    environment = {**os.environ, "PYTHONPATH": import_path(TESTS), VARIABLE: secret, MARK: mark}
    options = ["--rank", rank, "--world-size", size, "--host", f"host{rank}", "--allow", "ranks", *arguments]
    command = [sys.executable, "-m", "sglang_conformance.ranks", "--controller", address, *map(str, options)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def cluster(
    size: int, *, patience: Patience = QUICK, mark: str = ""
) -> Iterator[tuple[Cluster, Sequence[subprocess.Popen[str]]]]:
    """A cluster of so many agents on this machine, all of which have joined; it ends with its processes."""
    with contextlib.ExitStack() as undo:
        made = Cluster("127.0.0.1:0", SECRET.encode(), patience)
        undo.callback(made.close)
        processes = [agent(made.address, rank, size, mark=mark) for rank in range(size)]
        for process in processes:
            undo.callback(ended, process)
        made.wait(60)
        undo.pop_all()
    try:
        yield made, processes
    finally:
        made.close()
        for process in processes:
            ended(process)


def ended(process: subprocess.Popen[str], seconds: float = 20.0) -> tuple[int, str]:
    """How a process ends, and what it said on its error stream; killed where it does not."""
    try:
        said = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[1]
    return process.returncode, said


def somewhere(rank: int = 0, size: int = 1, **other: object) -> Place:
    """The place of an agent that only speaks the protocol."""
    made = place({}, rank=rank, size=size, local=0, host=f"host{rank}").to_json()
    return Place.from_json({**made, **other})


async def joined(cluster: Cluster, here: Place, secret: str = SECRET) -> Link:
    """A link of an agent that was let in. Raises Refused where it was not."""
    reader, writer = await asyncio.open_connection(*parsed(cluster.address))
    link = await introduce(reader, writer, secret.encode())
    link.send(here.to_json())
    answer = await link.receive()
    if "refused" in answer:
        link.abort()
        raise Refused(line(answer["refused"]))
    return link
