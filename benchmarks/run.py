"""How the time of a certification divides: start-up, collecting, story, checks by area, the dearest checks.

python benchmarks/run.py [PLATFORM ...] > reports/benchmarks/run.json
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sglang_conformance.probes import client
from sglang_conformance.stages import preloaded
from sglang_conformance.suite.areas import all_checks


def main(platforms: list[str]) -> dict[str, Any]:
    """Certify each platform in a pytest process of its own; the figures are those of its record."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "zygote_s": _zygote(),
        "probe": _probe(),
        "runs": [_certify(name) for name in platforms],
    }


def _zygote() -> float:
    """From nothing to the first answer of a probe, seconds."""
    started = time.perf_counter()
    zygote = client.start(preloaded())
    client.connect(zygote.address).run("sglang_conformance.suite.execute:nothing")
    zygote.close()
    return round(time.perf_counter() - started, 2)


def _probe(count: int = 100) -> dict[str, Any]:
    """What a probe costs that does nothing, beside starting an interpreter that imports torch."""
    zygote = client.start(preloaded())
    warm = client.connect(zygote.address)
    warm.run("sglang_conformance.suite.execute:nothing")
    started = time.perf_counter()
    for _ in range(count):
        warm.run("sglang_conformance.suite.execute:nothing")
    probe = (time.perf_counter() - started) / count
    zygote.close()
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    fresh = time.perf_counter() - started
    return {"probe_ms": round(1e3 * probe, 1), "fresh_ms": round(1e3 * fresh), "ratio": round(fresh / probe)}


def _certify(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                f"--platform={name}",
                "--sglang=reference",
                "-q",
                "-p",
                "no:cacheprovider",
            ],
            cwd=folder,
            capture_output=True,
        )
        wall = time.perf_counter() - started
        record = json.loads(Path(folder, "conformance-report", "certificate.json").read_text())
    areas = {name: check.area for check in all_checks() for name in check.requirements}
    by_area: dict[str, float] = {}
    for name_, outcome in record["requirements"].items():
        by_area[areas[name_]] = by_area.get(areas[name_], 0.0) + outcome["seconds"]
    dearest = sorted(record["requirements"].items(), key=lambda item: -item[1]["seconds"])[:8]
    return {
        "platform": name,
        "exit": done.returncode,
        "wall_s": round(wall, 2),
        "checks_s": round(sum(by_area.values()), 2),
        "areas_s": {area: round(seconds, 2) for area, seconds in by_area.items()},
        "dearest_s": {name_: round(outcome["seconds"], 2) for name_, outcome in dearest},
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:] or ["cpu"]), indent=1))
