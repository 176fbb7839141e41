"""Figures as a benchmark might have measured them, for what is drawn from them."""

from __future__ import annotations

from dataclasses import replace

from sglang_conformance.bench.model import BACKEND, COPY, CUSTOM, GROUP, PYNCCL, Case, Measured, Taken
from sglang_conformance.bench.record import Setting

SETTING = Setting(
    platform="sim",
    distribution="sglang-simulated",
    version="1.0",
    platform_class="sglang_simulated.platform.SimSRTPlatform",
    host="reference",
    release="0.5.23",
    backend="cpu:gloo,sim:simccl",
    device="Simulated accelerator",
    torch="2.13.0",
    devices=4,
    world_sizes=(2, 4),
    warmup=5,
    iterations=3,
    cpu="A processor of some name, 3.4 GHz",
    cores=2,
    date="2026-01-02T03:04:05Z",
)


def measured(size: int = 1 << 20, ranks: int = 2, dtype: str = "float32", wrong: int = 0) -> Measured:
    """One case in which every engine took its time, and the custom one was not there."""
    unit = size * 1e-10
    taken = (
        Taken(GROUP, 4, (2 * unit, 2.2 * unit, 2.1 * unit), by=PYNCCL),
        Taken(PYNCCL, 4, (2 * unit,) * 3, wrong),
        Taken(BACKEND, 4, (8 * unit,) * 3),
        Taken(COPY, 4, (unit,) * 3),
    )
    return Measured(Case(ranks, dtype, size), taken, {CUSTOM: "the group has none"})


def on_cpu(world_sizes: tuple[int, ...]) -> Setting:
    """The setting of the built-in platform."""
    return replace(
        SETTING, platform="cpu", distribution="", version="", devices=None, device="", world_sizes=world_sizes
    )
