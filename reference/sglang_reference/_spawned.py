"""Processes that start afresh, and in which the reference is installed before anything of ``sglang`` is looked at.

SGLang starts its workers by multiprocessing's spawn, which imports what it is handed: here, that would find no
``sglang``. So a function of this module, which imports nothing of it, is handed plain data, and does the rest.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import sglang_reference

_PR_SET_PDEATHSIG = 1


def start(
    table: Mapping[str, Any],
    server_arguments: Mapping[str, Any],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    writer: Connection[Any, Any],
    name: str,
) -> SpawnProcess:
    """A process that calls ``function(*arguments, writer)``, under a reference that follows these tables.

    The function, which can be imported, and its arguments are pickled: they may be of ``sglang``. Where they cannot be
    looked up, or the function raises, the process sends a message through ``writer``, with ``status``, ``error`` and
    ``traceback``, and ends with status 1. It also ends when the one that has started it does.
    """
    payload = pickle.dumps((function, arguments))
    parent = os.getpid()
    process = multiprocessing.get_context("spawn").Process(
        target=_enter, args=(dict(table), dict(server_arguments), payload, writer, parent), name=name
    )
    process.start()
    return process


def failure(error: BaseException) -> dict[str, str]:
    """What is told of a process that has failed."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"status": "failed", "error": f"{type(error).__name__}: {error}", "traceback": text}


def _enter(
    table: dict[str, Any],
    server_arguments: dict[str, Any],
    payload: bytes,
    writer: Connection[Any, Any],
    parent: int,
) -> None:
    _die_with(parent)
    try:
        sglang_reference.install(table, server_arguments)
        function, arguments = pickle.loads(payload)
        function(*arguments, writer)
    except Exception as error:
        writer.send(failure(error))
        sys.exit(1)


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends; at once where it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
