"""What the commands share of the terminal and of files: how wide it is, printing to it, and what can be written."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from .errors import OptionError

WIDTH = 100
"""Columns of text; fewer on a terminal that is narrower."""

_NARROWEST = 40


def width() -> int:
    """Columns to wrap text to: those of the terminal (or of ``COLUMNS``), from 40 to 100; 100 where there is none."""
    return min(max(shutil.get_terminal_size((WIDTH, 24)).columns, _NARROWEST), WIDTH)


def say(lines: Iterable[str]) -> None:
    """Print lines to the standard output, and see that they are out.

    Raises BrokenPipeError where the reader, a pager or head, has gone, and any other OSError with "the output" for a
    file name where they cannot be written. What could not be printed is then dropped, so that the end of the process
    does not try again.
    """
    text = "\n".join(lines)
    try:
        print(text, flush=True)
    except OSError as error:
        _drop(sys.stdout)
        raise OSError(error.errno, error.strerror, "the output") from None


def _drop(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # a stream of no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def told(error: OSError) -> str:
    """An error of the system as people say it: of what file, where that is known, and what is wrong with it."""
    return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror or str(error)


def see_that_it_can_be_written(option: str, path: Path | None, *, printed: bool = False) -> None:
    """Whether a file that an option names has a place, before anything is done; ``printed``: ``-`` prints it instead.

    Raises OptionError with one clear line.
    """
    if path is None or (printed and str(path) == "-"):
        return
    if str(path) == "-":
        raise OptionError(f"{option}=-: it is written to a file, not printed; name one")
    if not path.parent.is_dir():
        raise OptionError(f"{option}={path}: there is no folder {path.parent}; make it, or name another")
    if path.is_dir():
        raise OptionError(f"{option}={path}: that is a folder; name a file")


def write(path: Path, content: str | bytes) -> None:
    """Put a file there, at once or not at all. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
