"""A group's decision, from the process that is to make it: who gathers its facts, and what all ranks agree on.

::

    agreed = decide(seat, local_rank, release, environ=os.environ, platform=current_platform)
    made = establish(another_seat, agreed.verdict, makers, close)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from . import nvml, providers, settings
from .consensus import Agreed, Provider, Seat, agree
from .providers import Unavailable
from .topology import Device


def decide(
    seat: Seat,
    index: int,
    release: str,
    *,
    environ: Mapping[str, str] | None = None,
    platform: Any = None,
    enabled: bool = True,
) -> Agreed:
    """What the group has, the same on all ranks; see :func:`.consensus.agree`.

    ``index`` is this process's number of its device, ``enabled`` whether the server's arguments let there be any.
    """
    given = os.environ if environ is None else environ
    own = settings.read(given, release, enabled=enabled)
    return agree(seat, provider_of(seat.rank, index, given, platform), own, release)


def provider_of(rank: int, index: int, environ: Mapping[str, str], platform: Any = None) -> Provider:
    """Who gathers the facts of this rank: a table that the environment names, the platform, or NVML.

    Where none can, what is given raises the reason when it is asked, so that all ranks hear of it.
    """
    try:
        table = providers.table_of(environ)
        if table is not None:
            return providers.TableProvider(table, rank)
        offered = providers.of_platform(platform)
        return offered if offered is not None else _of_nvidia(index, environ)
    except (Unavailable, ValueError, KeyError, TypeError) as error:
        return _Nobody(str(error))


class _Nobody:
    """Knows nothing, and why."""

    def __init__(self, why: str) -> None:
        self._why = why

    def device(self) -> Device:
        """Raises the reason."""
        raise Unavailable(self._why)

    def lanes(self, peer: Device) -> int:
        """Raises the reason."""
        raise Unavailable(self._why)

    def access(self, peer: Device) -> bool:
        """Raises the reason."""
        raise Unavailable(self._why)


def _of_nvidia(index: int, environ: Mapping[str, str]) -> Provider:
    import torch

    library = nvml.library()
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        raise Unavailable(f"torch sees no CUDA device {index}")
    own = torch.cuda.get_device_properties(index)
    capability = torch.cuda.get_device_capability(index)
    uuid = f"GPU-{own.uuid}"
    return nvml.NvmlProvider(library, uuid, capability, _driver_says(library), nvml.expandable(environ))


def _driver_says(library: Any) -> Callable[[str, str], bool]:
    """Access as the driver tells it, for devices that this process may not see."""

    def has_access(one: str, other: str) -> bool:
        library.nvmlInit()
        try:
            ends = [library.nvmlDeviceGetHandleByUUID(uuid) for uuid in (one, other)]
            ways = (library.NVML_P2P_CAPS_INDEX_READ, library.NVML_P2P_CAPS_INDEX_WRITE)
            return all(library.nvmlDeviceGetP2PStatus(*ends, way) == library.NVML_P2P_STATUS_OK for way in ways)
        finally:
            library.nvmlShutdown()

    return has_access
