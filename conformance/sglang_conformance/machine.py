"""What records say of the machine that they were made on."""

from __future__ import annotations

import platform


def processor() -> str:
    """The processor's name, or what stands for it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "a processor"
