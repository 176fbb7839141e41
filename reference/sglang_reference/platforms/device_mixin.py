"""``sglang.srt.platforms.device_mixin``: what a device is, and what every platform can be asked about it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple

from .._contract import TABLE, distributed_backends, since
from .._members import enumeration, with_members

if since("0.5.13"):  # names of SGLang's own module, which its tests reach for
    import random  # noqa: F401

    import numpy as np  # noqa: F401
    import torch  # noqa: F401
if since("0.5.14"):
    from ..environ import envs  # noqa: F401

PlatformEnum: Any = enumeration("PlatformEnum", TABLE["platform_enum"], __name__)
"""The kinds of platform that the release knows; OOT is the one for plugins."""

CpuArchEnum: Any = enumeration("CpuArchEnum", TABLE["cpu_arch_enum"], __name__)
"""The processor architectures that the release tells apart."""


class DeviceCapability(NamedTuple):
    """The compute capability of a device, compared as a pair."""

    major: int
    minor: int

    def as_version_str(self) -> str:
        """The capability as ``9.0``."""
        return f"{self.major}.{self.minor}"

    def to_int(self) -> int:
        """The capability as ``90``; the minor number must be a single digit."""
        assert 0 <= self.minor <= 9, f"the minor number {self.minor} is not a single digit"
        return 10 * self.major + self.minor


if TABLE["backends"]["asks_platform"]:
    _DEVICE_TO_DISTRIBUTED_BACKEND: dict[str, str] = distributed_backends()


@with_members
class DeviceMixin:
    """What every platform is and can do with its devices; the members are the contract table's.

    A platform sets ``_enum``, ``device_name`` (a short name, as ``npu``) and ``device_type`` (torch's name of the
    device) on the class, and overrides what its hardware does.
    """

    _enum: enum.Enum
    device_name: str
    device_type: str

    if TYPE_CHECKING:
        # The members that the contract table adds.
        def __getattr__(self, name: str) -> Any: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}(device={self.device_name})"
