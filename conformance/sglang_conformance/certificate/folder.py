"""The folder of a record: checked before the run, written after it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..requirements.model import Requirement
from .junit import junit_text
from .model import Certificate
from .record import dumps

RECORD = "certificate.json"
JUNIT = "junit.xml"


class FolderError(OSError):
    """The record cannot be put where it is meant to go; its text is one line naming the folder."""


def prepare(folder: Path) -> None:
    """Make the folder and prove, by a real file, that the record can be written there.

    To be called before the first check. The record of an earlier run is removed, so that a run that dies
    half-way cannot pass for it. Raises :class:`FolderError`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = _beside(folder / RECORD)
        trial.write_bytes(b"")
        trial.unlink()
        for name in (RECORD, JUNIT):
            (folder / name).unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from None


def write(certificate: Certificate, requirements: Iterable[Requirement], folder: Path) -> None:
    """Write ``certificate.json`` and ``junit.xml``, each at once or not at all. Raises :class:`FolderError`.

    ``requirements`` holds at least those of the certificate: the JUnit report quotes them.
    """
    report, record = junit_text(certificate, requirements), dumps(certificate)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / JUNIT, report)
        _replace(folder / RECORD, record)
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from None


def _replace(path: Path, text: str) -> None:
    beside = _beside(path)
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _unwritable(folder: Path, error: Exception) -> FolderError:
    if isinstance(error, FileExistsError):
        return FolderError(f"{folder}: is a file; --certificate takes a folder")
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FolderError(f"{folder}: cannot be written: {why}; give another folder with --certificate")
