"""The uuids of a platform's devices, each fit to name a file after.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from .. import expect
from . import answers, worker


def listed(platform: Any) -> list[str]:
    """Ask each device's, in order; a violation where one is blank or holds a slash."""
    found = []
    for device in worker.devices(platform):
        answer = expect.ask(platform, "get_device_uuid", worker.index_of(device))
        uuid = answers.text(answer)
        fit = "/" not in uuid and "\0" not in uuid
        expect.that(fit, expected="a text that a file can be named after", seen=repr(uuid), answer=answer)
        found.append(uuid)
    return found
