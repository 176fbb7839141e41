"""The import path of processes that tests start."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).parent
REFERENCE = TESTS.parent / "reference"
SIMULATED = REFERENCE / "sglang_simulated"


def import_path(*folders: Path) -> str:
    """PYTHONPATH: the folders, and then what is on it, by which the plugins of this environment stay hidden."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
