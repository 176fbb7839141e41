"""The host's memory, as SGLang asks for it: psutil's figures, a container's limits, by NUMA node.

Facts: srt/utils/common.py of SGLang 0.5.11, 0.5.22 (psutil alone) and 0.5.23 (with the container's limits).
"""

from __future__ import annotations

import os
from pathlib import Path

from .._contract import since

_MIB = 1 << 20
_CGROUP = Path("/sys/fs/cgroup")
_NODES = Path("/sys/devices/system/node")


def free_bytes_per_node() -> float:
    """Memory of the host that can be had, in bytes, divided by the NUMA nodes that have processors."""
    import psutil

    free = int(psutil.virtual_memory().available)
    if since("0.5.23"):
        limit, used = _limit("memory.max"), _limit("memory.current")
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used))
    return round(free / _nodes(), 3)


def capacity_in_mib() -> float | None:
    """The memory of a NUMA node, in MiB; from 0.5.23 on no more than the container may have.

    None where SGLANG_CPU_OMP_THREADS_BIND gives the ranks their processors, since a rank's share is not known then.
    """
    import psutil

    if os.environ.get("SGLANG_CPU_OMP_THREADS_BIND"):
        return None
    total = int(psutil.virtual_memory().total)
    if not since("0.5.23"):
        nodes = [_total_of(node) for node in _NODES.glob("node[0-9]*")]
        return float(min(nodes) if nodes and all(nodes) else total / _nodes() // _MIB)
    limit = _limit("memory.max")
    return float((total if limit is None else min(total, limit)) / _nodes() // _MIB)


def _total_of(node: Path) -> int:
    """What the kernel says that a NUMA node has, in MiB; 0 where it says nothing."""
    try:
        words = (node / "meminfo").read_text().split()
    except OSError:
        return 0
    return int(words[3]) // 1024 if words[2:3] == ["MemTotal:"] else 0


def _limit(name: str) -> int | None:
    """A figure of the container's, in bytes; None where there is none."""
    try:
        told = (_CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(told) if told.isdigit() else None


def _nodes() -> int:
    lists = [node / "cpulist" for node in _NODES.glob("node[0-9]*")]
    return sum(1 for cpus in lists if cpus.is_file() and cpus.read_text().strip()) or 1
