"""Who gathers the facts of a rank: a table, or the platform of a vendor that offers it; :mod:`.nvml` does for NVIDIA.

Each has the three methods of :class:`.consensus.Provider`; whatever one raises is the reason that a fact is not known.
"""

from __future__ import annotations

import json
import os
import platform as machine
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from .topology import Device

TABLE_VARIABLE = "SGLANG_REFERENCE_TOPOLOGY"
"""The environment variable that names a JSON file with the table of :class:`TableProvider`."""

DEVICE_METHOD, LANES_METHOD, ACCESS_METHOD = "get_all_reduce_device", "get_all_reduce_lanes", "get_all_reduce_access"
"""The methods by which a vendor's platform may tell its facts, all three or none. No SGLang has them: a platform that
offers them can use the reference's decision for devices of its own.

``get_all_reduce_device()`` returns a mapping with fields of :class:`.topology.Device` (``device``, its UUID, at least).
``get_all_reduce_lanes(uuid)`` returns how many lanes are up that end at the device of that UUID, 0 for none.
``get_all_reduce_access(uuid)`` returns whether this process can read and write that device's memory.
"""


class Unavailable(Exception):
    """Nobody here can gather the facts; the text says why."""


class TableProvider:
    """A topology that is written down, as seen by one rank.

    ``{"ranks": [{"node": "a", "device": "GPU-0", ...}, ...], "lanes": [{"between": [0, 1], "up": 4}, ...],
    "no_access": [[0, 1], ...]}``: the fields of a rank are those of :class:`.topology.Device`; pairs without lanes are
    joined by PCIe.
    """

    def __init__(self, table: Mapping[str, Any], rank: int) -> None:
        self._devices = tuple(device_of(each) for each in table["ranks"])
        self._lanes = {frozenset(each["between"]): int(each["up"]) for each in table.get("lanes", ())}
        self._closed = {frozenset(pair) for pair in table.get("no_access", ())}
        self._rank = rank

    def device(self) -> Device:
        """What the table says of this rank."""
        return self._devices[self._rank]

    def lanes(self, peer: Device) -> int:
        """The lanes that are up between the two."""
        return self._lanes.get(self._pair(peer), 0)

    def access(self, peer: Device) -> bool:
        """Whether the table does not deny it."""
        return self._pair(peer) not in self._closed

    def _pair(self, peer: Device) -> frozenset[int]:
        return frozenset((self._rank, self._devices.index(peer)))


class PlatformProvider:
    """A vendor's platform, asked by the names above."""

    def __init__(self, platform: Any) -> None:
        self._platform = platform

    def device(self) -> Device:
        """What the platform says; the machine is this one where it does not name it."""
        told = getattr(self._platform, DEVICE_METHOD)()
        return device_of({"node": this_node(), "kind": "other", **told})

    def lanes(self, peer: Device) -> int:
        """The lanes up to that peer."""
        return int(getattr(self._platform, LANES_METHOD)(peer.device))

    def access(self, peer: Device) -> bool:
        """Whether the peer's memory is within reach."""
        return bool(getattr(self._platform, ACCESS_METHOD)(peer.device))


def table_of(environ: Mapping[str, str]) -> Mapping[str, Any] | None:
    """The table that the environment names; None where it names none. Raises Unavailable where it cannot be read."""
    path = environ.get(TABLE_VARIABLE)
    if not path:
        return None
    try:
        table = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise Unavailable(f"{TABLE_VARIABLE} names {path}, which cannot be read: {error}") from None
    if not isinstance(table, dict) or not isinstance(table.get("ranks"), list):
        raise Unavailable(f"{TABLE_VARIABLE} names {path}, which has no list of ranks")
    return table


def of_platform(platform: Any) -> PlatformProvider | None:
    """The provider of a platform that offers its facts; None for one that does not."""
    offered = [callable(getattr(platform, name, None)) for name in (DEVICE_METHOD, LANES_METHOD, ACCESS_METHOD)]
    return PlatformProvider(platform) if all(offered) else None


def this_node() -> str:
    """What tells apart the machines whose processes share no memory: the boot, and the namespace of shared memory."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/ipc').st_ino}"
    except OSError:
        return machine.node()


def device_of(told: Mapping[str, Any]) -> Device:
    """A device from plain data. Raises ValueError for fields that a device does not have, or lacks."""
    unknown = sorted(told.keys() - {field.name for field in fields(Device)})
    if unknown or "device" not in told or "node" not in told:
        raise ValueError(f"a device has node and device, and no {', '.join(unknown) or 'fewer fields'}: {dict(told)}")
    given = dict(told)
    if "capability" in given:
        major, minor = given["capability"]
        given["capability"] = (int(major), int(minor))
    return Device(**given)
