"""What the warm processes of the two sides run: they enter their SGLang once, then fork for each world.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from sglang_conformance.hosts import bare
from sglang_conformance.probes.server import Probe, die_with_parent

from .restoring import restored

MODULES = (
    "sglang.srt.environ",
    "sglang.srt.platforms",
    "sglang.srt.plugins.hook_registry",
    "sglang.srt.distributed.parallel_state",
    "sglang.srt.distributed.communication_op",
    "sglang.srt.utils.common",
)
"""What both sides import before the first world; importing more later would cost each world as much."""


def enter_reference(probe: Probe, table: Mapping[str, Any]) -> tuple[None, None]:
    """Become the side of the reference, following a contract table."""
    import sglang_reference

    sglang_reference.install(table)
    _load()
    return None, None


def enter_real(probe: Probe) -> tuple[None, str]:
    """Become the side of the real SGLang that is on the import path; tells its release."""
    _load()
    return None, str(importlib.import_module("sglang").__version__)


def _load() -> None:
    for name in MODULES:
        importlib.import_module(name)
    with contextlib.suppress(ImportError):  # which a release may not have, or the reference not cover
        importlib.import_module("sglang.srt.runtime_context")
    bare.load()
    platforms = importlib.import_module("sglang.srt.platforms")
    platforms._current_platform = None  # type: ignore[attr-defined]


def live(probe: Probe) -> None:
    """Answer batches of worlds until the other end closes: each batch enacted in a fork of this process."""
    assert probe.control is not None
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    while (received := probe.control.receive()) is not None:
        request, _ = received
        probe.control.send(_in_fork(request["subject"], request["worlds"]))


def _in_fork(subject: str, worlds: Sequence[Any]) -> Any:
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            die_with_parent(parent)
            _tell(writer, subject, worlds)
            os._exit(0)
        finally:
            os._exit(1)  # whatever a world does, this process never goes on as its parent
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(told) if told and status == 0 else {"died": status}


def _tell(writer: int, subject: str, worlds: Sequence[Any]) -> None:
    try:
        enact = importlib.import_module(subject).enact
        stories = []
        for world in worlds:
            with restored():
                stories.append(enact(world))
        told = json.dumps({"stories": stories})
    except BaseException:
        told = json.dumps({"broke": traceback.format_exc()})
    with open(writer, "w", encoding="utf-8", errors="surrogatepass") as pipe:
        pipe.write(told)
