"""Which devices can really reach each other's memory: tested once on a machine, and kept in a file.

Drivers have said that access is possible where it was not, so SGLang tries it, which takes seconds a machine (0.5.23,
custom_all_reduce_utils.py, ``gpu_p2p_access_check``). The file is only ever a saving: one that is truncated, garbage,
of other devices or of another driver counts as none, and a folder that cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FORMAT = 1
_PAUSE = 0.02


@dataclass(frozen=True)
class Machine:
    """The devices that were tested together, by what names each for ever (its UUID), and their driver's version."""

    devices: tuple[str, ...]
    driver: str = ""


@dataclass(frozen=True)
class Access:
    """Which of a machine's devices reach which, as pairs (from, to). A device always reaches itself."""

    machine: Machine
    pairs: frozenset[tuple[str, str]]

    def between(self, one: str, other: str) -> bool:
        """Whether each of the two reaches the other; False for a device that was not tested."""
        return {(one, other), (other, one)} <= self.pairs or one == other


Test = Callable[[Sequence[str]], frozenset[tuple[str, str]]]
"""Tries the access between these devices; returns the pairs that have it. May raise whatever it wants."""


def access(folder: Path, machine: Machine, test: Test, deadline: float = 60.0) -> Access:
    """What is kept of the machine in the folder, or else what a test says now, which is kept.

    Of the processes of a machine one tests, and the others wait for it, ``deadline`` seconds at most: then they test
    for themselves. A file that cannot be written is no error; what the test raises is.
    """
    path = file_of(folder, machine)
    kept = load(path, machine)
    if kept is not None:
        return kept
    with _turn(path, deadline):
        kept = load(path, machine)
        if kept is None:
            kept = Access(machine, frozenset(test(machine.devices)))
            save(path, kept)
        return kept


def file_of(folder: Path, machine: Machine) -> Path:
    """The machine's file: named by a digest, as sixteen UUIDs are longer than a file's name may be."""
    digest = hashlib.sha256(json.dumps([machine.devices, machine.driver]).encode()).hexdigest()
    return folder / f"peer_access_{digest[:16]}.json"


def load(path: Path, machine: Machine) -> Access | None:
    """What the file keeps of just this machine; None where there is none, or none that is whole."""
    try:
        pairs = _pairs(json.loads(path.read_text()), machine)
    except (OSError, ValueError, RecursionError):
        return None
    return None if pairs is None else Access(machine, pairs)


def save(path: Path, found: Access) -> bool:
    """Keep it: the file is replaced at once, never seen in part. Returns whether it could be written."""
    text = json.dumps(
        {
            "format": _FORMAT,
            "devices": found.machine.devices,
            "driver": found.machine.driver,
            "pairs": sorted(found.pairs),
        }
    )
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return False
    return True


def _pairs(data: Any, machine: Machine) -> frozenset[tuple[str, str]] | None:
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        return None
    if data.get("devices") != list(machine.devices) or data.get("driver") != machine.driver:
        return None
    pairs = data.get("pairs")
    if not isinstance(pairs, list):
        return None
    known = set(machine.devices)
    found = set()
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(d, str) and d in known for d in pair)):
            return None
        found.add((pair[0], pair[1]))
    return frozenset(found)


@contextlib.contextmanager
def _turn(path: Path, deadline: float) -> Iterator[None]:
    """One process of the machine at a time; all at once where the folder has no room for a lock, or time is up.

    The lock is the kernel's: it goes with the process that holds it, however that ends.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        yield
        return
    try:
        moment = time.monotonic() + deadline
        while not _locked(handle) and time.monotonic() < moment:
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
