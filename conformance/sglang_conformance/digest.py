"""The digest of the kit itself: two runs with one digest asked the same questions.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def kit_digest() -> str:
    """Of every source and data file of the kit, as ``sha256:…``."""
    home = Path(__file__).parent
    content = hashlib.sha256()
    for file in sorted(path for path in home.rglob("*") if path.suffix in (".py", ".toml", ".json")):
        content.update(f"{file.relative_to(home)}\0".encode() + file.read_bytes())
    return f"sha256:{content.hexdigest()}"
