"""What the kit costs a pytest run that does not use it: start-up with and without it, side by side in one run.

python benchmarks/startup.py [PAIRS] > reports/benchmarks/startup.json
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

WITH: tuple[str, ...] = ()
WITHOUT: tuple[str, ...] = ("-p", "no:sglang_conformance")


def main(pairs: int) -> dict[str, object]:
    """Time pairs of runs, each first in turn, over a project with one empty test."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/test_nothing.py", "w", encoding="ascii") as file:
            file.write("def test_nothing():\n    pass\n")
        seconds: dict[tuple[str, ...], list[float]] = {WITH: [], WITHOUT: []}
        for number in range(pairs + 1):
            for options in (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH):
                taken = _run(folder, options)
                if number:  # the first pair warms the file cache
                    seconds[options].append(taken)
    ratios = [one / other for one, other in zip(seconds[WITH], seconds[WITHOUT], strict=True)]
    differences = [1e3 * (one - other) for one, other in zip(seconds[WITH], seconds[WITHOUT], strict=True)]
    return {
        "what": "pytest over one empty test: with the kit installed and asleep / with it switched off",
        "pairs": pairs,
        "with_ms": round(1e3 * statistics.median(seconds[WITH]), 1),
        "without_ms": round(1e3 * statistics.median(seconds[WITHOUT]), 1),
        "ratio_median": round(statistics.median(ratios), 4),
        "difference_ms_median": round(statistics.median(differences), 2),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _run(folder: str, options: Sequence[str]) -> float:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20), indent=1))
