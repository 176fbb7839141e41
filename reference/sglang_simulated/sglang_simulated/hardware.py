"""What the simulated driver says of this machine. Standard library only: ``activate()`` runs this."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

DEVICES_VARIABLE = "SGLANG_SIM_DEVICES"
MEMORY_VARIABLE = "SGLANG_SIM_MEMORY"
DEFAULT_DEVICES = 4
DEFAULT_MEMORY = 8 << 30
DEVICE_NAME = "Simulated accelerator"
CAPABILITY = (1, 0)
MAX_DEVICES = 64  # torch keeps a device's index in a signed byte; a node of SGLang has far fewer


class Hardware(NamedTuple):
    """The devices of this machine: how many, and the bytes of memory that each has."""

    devices: int
    memory: int


def detect(environ: Mapping[str, str] | None = None) -> Hardware:
    """Read the machine's devices from the environment, which stands in for a driver's query.

    ``SGLANG_SIM_DEVICES`` is their number (4 when unset; 0 is a machine without any), ``SGLANG_SIM_MEMORY`` the
    bytes of each (8 GiB when unset). Raises RuntimeError where a value makes no sense: that is a broken driver.
    """
    env = os.environ if environ is None else environ
    devices = _read(env, DEVICES_VARIABLE, DEFAULT_DEVICES, low=0, high=MAX_DEVICES)
    memory = _read(env, MEMORY_VARIABLE, DEFAULT_MEMORY, low=1, high=1 << 62)
    return Hardware(devices, memory)


def has_library() -> bool:
    """Whether the device's library for collectives, of NCCL's API, is installed; imports nothing."""
    return _installed("sglang_host_nccl")


def has_all_reduce() -> bool:
    """Whether the device's own all-reduce is installed; imports nothing."""
    return _installed("sglang_host_all_reduce")


def device_uuid(index: int) -> str:
    """The identifier of device ``index``: the same in every process, another for every device."""
    import uuid  # here, because activate() does without

    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"sglang-simulated/device/{index}"))


def _read(env: Mapping[str, str], name: str, default: int, *, low: int, high: int) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise RuntimeError(
            f"{name}={text!r} is not a whole number from {low} to {high}: "
            f"the simulated driver cannot start. Correct it, or unset it for {default}."
        )
    return value


def _installed(package: str) -> bool:
    import importlib.util  # here, because activate() does without

    return importlib.util.find_spec(package) is not None
