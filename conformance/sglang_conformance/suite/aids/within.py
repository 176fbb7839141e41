"""A server's process without its server: SGLang's arguments for it, and its place, so that parts can be made alone.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...hosts import serving
from ...journey.leg import Leg
from .. import expect

_LEG = Leg("mixtral", arguments=(("page_size", 16),))


def settle(device: Any) -> None:
    """Make this process one that serves on the device, once: a scheduler's, before it makes its parts.

    NotReached where SGLang's arguments cannot be settled, which requirements on them, and on serving, report.
    """
    error = _settled(str(device.type), device.index or 0)
    if error is not None:
        raise expect.NotReached(f"SGLang's arguments cannot be settled: {type(error).__name__}: {error}")


def unsettled() -> str:
    """What SGLang lacks here so that no process can be made one that serves; empty where nothing does."""
    try:
        serving.load_arguments()
    except serving.NotServed as reason:
        return str(reason)
    return ""


@lru_cache(maxsize=1)
def _settled(kind: str, index: int) -> Exception | None:
    """What came of settling, if it failed; parts that want no server can be made where SGLang lacks what serves."""
    try:
        with serving.surroundings(), tempfile.TemporaryDirectory(prefix="settled-") as folder:
            _LEG.checkpoint.write(Path(folder))
            serving.settle(_LEG.asked(folder, kind), device=index)
    except ImportError:  # NotServed, or a package that settling wants
        return None
    except Exception as error:
        return error
    return None
