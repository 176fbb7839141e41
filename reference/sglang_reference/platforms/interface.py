"""``sglang.srt.platforms.interface``: the base class of the platforms that serve language models."""

from __future__ import annotations

import logging
from dataclasses import field, make_dataclass
from typing import Any, Literal, NoReturn

from .._contract import TABLE, since
from .._members import with_members
from .device_mixin import DeviceMixin, PlatformEnum

__all__ = ["PlatformEnum", "SRTPlatform"]

if TABLE["kv_pool_kinds"]:
    logger = logging.getLogger(__name__)
    KVPoolKind: Any = Literal[tuple(TABLE["kv_pool_kinds"])]
    _LEGACY_KV_POOL_HOOKS: dict[str, str] = dict(TABLE["legacy_kv_pool_hooks"])
    _warned_legacy_kv_pool_hooks: set[tuple[type, str]] = set()
    __all__ += ["KVPoolKind"]

if TABLE["capabilities"]:
    # SGLang 0.5.23 has a msgspec.Struct here, just as frozen and keyword-only.
    PlatformCapabilities: Any = make_dataclass(
        "PlatformCapabilities",
        [(name, bool, field(default=default)) for name, default in TABLE["capabilities"].items()],
        namespace={"__doc__": "What a platform declares it can do; every field has the cautious default."},
        frozen=True,
        kw_only=True,
    )
    PlatformCapabilities.__module__ = __name__
    __all__ += ["PlatformCapabilities"]


@with_members
class SRTPlatform(DeviceMixin):
    """Base class of a platform: factories, declarations and life-cycle hooks; the members are the contract table's."""


if since("0.5.22"):

    def require_out_of_tree_impl(platform: SRTPlatform, *, hook: str, subsystem: str) -> None:
        """Refuse, with NotImplementedError, an out-of-tree platform that leaves ``hook`` to SGLang's default."""
        if platform.is_out_of_tree():
            _refuse(
                platform,
                f"has no {subsystem} of its own; override {hook} in its SRTPlatform subclass, "
                "since SGLang's default would give this device what was made for CUDA",
            )

    def reject_out_of_tree_path(platform: SRTPlatform, *, subsystem: str) -> None:
        """Refuse, with NotImplementedError, an out-of-tree platform in a path of SGLang that platforms cannot enter."""
        if platform.is_out_of_tree():
            _refuse(
                platform,
                f"came to {subsystem}, which platforms cannot provide yet and which SGLang would build for CUDA",
            )

    def _refuse(platform: SRTPlatform, why: str) -> NoReturn:
        name = type(platform).__name__
        raise NotImplementedError(f"the out-of-tree platform {name} (device {platform.device_name!r}) {why}")

    __all__ += ["reject_out_of_tree_path", "require_out_of_tree_impl"]
