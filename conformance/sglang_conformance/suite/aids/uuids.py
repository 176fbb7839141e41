"""The uuids of a platform's devices, as SGLang reads them: as texts.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from .. import expect
from . import worker

LONGEST = 100  # characters of a uuid that a person can still read; NVIDIA's have 40
LONGEST_IN_A_PATH = 77  # what the weight cache's path leaves of the 107 bytes of a Unix socket's


def asked(platform: Any, device: Any) -> expect.Answer:
    """Ask a device's; its value is the text that SGLang writes it as, whatever its type. Declined where not offered."""
    answer = worker.optional(platform, "get_device_uuid", worker.index_of(device))
    kind: Any = type(answer.value)
    bare = (kind.__str__, kind.__repr__) == (object.__str__, object.__repr__)  # its text would be its address
    telling = not bare and not isinstance(answer.value, (bool, type(None)))
    expect.that(telling, expected="a text", seen=expect.show(answer.value), answer=answer)
    return expect.Answer(str(answer.value), answer.call, answer.where)


def listed(platform: Any) -> list[str]:
    """Ask each device's, in order; a violation where one is blank, too long or has characters that do not print."""
    found = []
    for device in worker.devices(platform):
        answer = asked(platform, device)
        uuid: str = answer.value
        fit = uuid.strip() and uuid.isprintable() and len(uuid) <= LONGEST
        seen = f"{expect.show(uuid)}, of {len(uuid)} characters"
        expect.that(fit, expected=f"1 to {LONGEST} printable characters", seen=seen, answer=answer)
        found.append(uuid)
    return found
