"""Running a test in a forked child, for what changes its process for good.

Registering a device type changes torch for the whole process; a session's other tests must not see it.
"""

from __future__ import annotations

import importlib
import os
import traceback

import pytest


def call(pyfuncitem: pytest.Function) -> bool:
    """Run the test in a child, and tell what came of it here; for a ``pytest_pyfunc_call``."""
    # The first operation on any tensor subclass imports this, which takes a second: here once, not in every child.
    importlib.import_module("torch.distributed.tensor")
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(_run(pyfuncitem, arguments, writer))
    os.close(writer)
    with os.fdopen(reader) as pipe:
        report = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        pytest.fail(report or f"the test's process ended with status {status}", pytrace=False)
    return True


def _run(item: pytest.Function, arguments: dict[str, object], writer: int) -> int:
    try:
        import torch

        torch.set_num_threads(1)  # the parent's worker threads do not survive the fork
        item.obj(**arguments)
    except BaseException:
        os.write(writer, traceback.format_exc().encode()[-60_000:])
        return 1
    return 0
