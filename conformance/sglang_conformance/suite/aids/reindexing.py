"""``reindex_device_id``: what it gives, and whether the environment is as before when it is left.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from typing import Any

from .. import expect
from . import worker


def given(platform: Any, index: int) -> Any:
    """What the context manager gives for a device."""
    with platform.reindex_device_id(index) as logical:
        return logical


def puts_back(platform: Any, *, raising: bool) -> None:
    """Enter and leave it, in order or by an error; a violation where an environment variable is not as before."""
    worker.start(platform)
    call = "with platform.reindex_device_id(0)" + (": raise" if raising else "")
    before = dict(os.environ)
    expect.attempt(call, lambda: _enter_and_leave(platform, raising))
    names = sorted(set(before) | set(os.environ))
    left = {name: os.environ.get(name) for name in names if before.get(name) != os.environ.get(name)}
    where = expect.place_of(platform, "reindex_device_id")
    expect.equal(left, {}, call=f"{call}; environment variables that differ afterwards", where=where)


def _enter_and_leave(platform: Any, raising: bool) -> None:
    try:
        with platform.reindex_device_id(0):
            if raising:
                raise KeyError("a child that does not start")
    except KeyError:
        pass
