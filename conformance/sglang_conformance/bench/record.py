"""The record of a benchmark: where and how it was taken, and every figure, as JSON.

Its schema is reports/schemas/bench-1.schema.json.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from .. import __version__
from ..digest import kit_digest
from ..machine import processor
from .measuring import Bench, Plan
from .model import Figures, Measured, Taken, figures

SCHEMA = "sglang-conformance/bench/1"


@dataclass(frozen=True)
class Setting:
    """Where a benchmark was taken, and how. ``devices``: how many there are for ranks; None where these share the CPU.

    ``cores`` are those that this process may use, ``date`` is in UTC.
    """

    platform: str
    distribution: str
    version: str
    platform_class: str
    host: str
    release: str
    backend: str
    device: str
    torch: str
    devices: int | None
    world_sizes: tuple[int, ...]
    warmup: int
    iterations: int
    cpu: str = field(default_factory=lambda: processor())
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))

    @classmethod
    def of(cls, plan: Plan, bench: Bench, world_sizes: tuple[int, ...]) -> Setting:
        """The setting of a platform that is about to be measured; its first ranks are asked."""
        said = bench.describe(world_sizes[0])
        point = plan.subject.entry_point
        return cls(
            platform=plan.subject.name,
            distribution=plan.subject.distribution,
            version=point.version if point else "",
            platform_class=str(bench.facts["class"]),
            host=plan.host.kind,
            release=plan.host.release,
            backend=said["backend"],
            device=said["name"],
            torch=said["torch"],
            devices=bench.devices,
            world_sizes=world_sizes,
            warmup=plan.warmup,
            iterations=plan.iterations,
        )

    @property
    def platform_told(self) -> str:
        """The platform, its distribution and its class."""
        package = f" of {self.distribution} {self.version}" if self.distribution else ", built into SGLang"
        return f"{self.platform}{package} ({self.platform_class})"

    @property
    def host_told(self) -> str:
        """The host and its release."""
        what = "the kit's reference of SGLang" if self.host == "reference" else "the installed SGLang"
        return f"{what} {self.release}"

    @property
    def ranks_told(self) -> str:
        """The groups, and what their ranks share."""
        most = self.world_sizes[-1]
        sizes = " and ".join(map(str, self.world_sizes))
        if self.devices is not None:
            shared = f"sharing {self.devices}" if most > self.devices else f"each with one of the {self.devices}"
            return f"{sizes}, {shared} devices"
        crowded = "; they take turns there, so read ratios rather than times" if most > self.cores else ""
        return f"{sizes}, on {self.cores} cores{crowded}"

    @property
    def machine_told(self) -> str:
        """The device, the processor, and the software under the platform."""
        software = f"Linux {platform.release()}, Python {platform.python_version()}, torch {self.torch}"
        return ", ".join(
            filter(None, (self.device, f"{self.cpu} ({platform.machine()}), {self.cores} cores", software))
        )

    @property
    def times_told(self) -> str:
        """How the times come about."""
        return (
            f"median of {self.iterations} iterations after {self.warmup} of warm-up, of a call by the slowest rank; "
            "engines in turn on the same ranks"
        )


def to_json(setting: Setting, measured: Sequence[Measured]) -> dict[str, Any]:
    """The record as plain data."""
    return {
        "schema": SCHEMA,
        "date": setting.date,
        "kit": {"version": __version__, "digest": kit_digest()},
        "host": {"kind": setting.host, "sglang": setting.release},
        "platform": {
            "name": setting.platform,
            "distribution": setting.distribution,
            "version": setting.version,
            "class": setting.platform_class,
            "backend": setting.backend,
            "device": setting.device,
            "devices": setting.devices,
        },
        "machine": {
            "architecture": platform.machine(),
            "processor": setting.cpu,
            "cores": setting.cores,
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "torch": setting.torch,
        },
        "warmup": setting.warmup,
        "iterations": setting.iterations,
        "results": [_result(each, taken) for each in measured for taken in each.taken],
        "absent": [
            {**_case(each), "engine": engine, "why": why} for each in measured for engine, why in each.absent.items()
        ],
        "wrong": sum(each.wrong for each in measured),
    }


def dumps(setting: Setting, measured: Sequence[Measured]) -> str:
    """The record as the text of a file."""
    return json.dumps(to_json(setting, measured), indent=1, allow_nan=False) + "\n"


def _case(measured: Measured) -> dict[str, Any]:
    case = measured.case
    return {"ranks": case.ranks, "dtype": case.dtype, "bytes": case.bytes, "count": case.count}


def _result(measured: Measured, taken: Taken) -> dict[str, Any]:
    low, high = taken.quartiles
    return {
        **_case(measured),
        "engine": taken.engine,
        "by": taken.by,
        "calls": taken.calls,
        "time_us": _six(1e6 * taken.time),
        "quartiles_us": [_six(1e6 * low), _six(1e6 * high)],
        **_rounded(figures(measured, taken)),
        "wrong": taken.wrong,
    }


def _rounded(found: Figures) -> Mapping[str, float | None]:
    named = {
        "algorithm_gbs": found.algorithm,
        "bus_gbs": found.bus,
        "times_as_fast_as_backend": found.vs_backend,
        "times_as_long_as_copy": found.vs_copy,
    }
    return {name: None if value is None else _six(value) for name, value in named.items()}


def _six(value: float) -> float:
    """The six digits that count, more than any clock is worth."""
    return float(f"{value:.6g}")
