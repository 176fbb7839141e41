"""Whose files of shared memory are: those that the processes of a server open or hold are the server's.

Other programs of the same user make and leave such files at the same time, and what is theirs is nobody's fault here.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

SHARED = Path("/dev/shm")
_PREFIX = f"{SHARED}/"


def names() -> frozenset[str]:
    """The files in shared memory that are this user's."""
    try:
        return frozenset(file.name for file in os.scandir(SHARED) if file.stat().st_uid == os.getuid())
    except OSError:
        return frozenset()


def note(folder: Path) -> None:
    """From now on, note below a folder what this process, and each that is forked from it, opens by a path.

    What is opened otherwise, as multiprocessing's SharedMemory is, is seen while it is held: :func:`note_held`.
    """
    descriptor = os.open(_notes(folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def hear(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[0], str | bytes):
            path = os.fsdecode(given[0])
            if path.startswith(_PREFIX):
                os.write(descriptor, os.fsencode(f"{path[len(_PREFIX) :]}\n"))

    sys.addaudithook(hear)


def note_held(folder: Path) -> None:
    """Note below a folder what this process and all that come of it hold now."""
    here = psutil.Process()
    held = set(_held(here.pid)).union(*(_held(child.pid) for child in here.children(recursive=True)))
    with _notes(folder).open("a", encoding="utf-8", errors="surrogateescape") as notes:
        notes.writelines(f"{name}\n" for name in sorted(held))


def noted(folder: Path) -> frozenset[str]:
    """All that was noted below a folder."""
    texts = (file.read_text(encoding="utf-8", errors="surrogateescape") for file in folder.glob("*.shared"))
    return frozenset(name for text in texts for name in text.splitlines())


def is_held(name: str) -> bool:
    """Whether a process has it open or mapped, as far as this one may look."""
    return any(name in _held(pid) for pid in psutil.pids())


def _notes(folder: Path) -> Path:
    return folder / f"{os.getpid()}.shared"


def _held(pid: int) -> frozenset[str]:
    process = Path(f"/proc/{pid}")
    try:
        mapped = (line.partition(_PREFIX)[2] for line in _lines(process / "maps") if _PREFIX in line)
        opened = (os.readlink(link) for link in (process / "fd").iterdir())
        found: Iterable[str] = [*mapped, *(path[len(_PREFIX) :] for path in opened if path.startswith(_PREFIX))]
    except OSError:
        return frozenset()
    return frozenset(name.removesuffix(" (deleted)") for name in found)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
