"""Which releases are compared, and where the real ones lie."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SGLANG_CONFORMANCE_SGLANGS"
"""Names a folder that holds the package of each release: ``0.5.15/sglang/…``."""

RELEASES = ("0.5.11", "0.5.15", "0.5.18", "0.5.22", "0.5.23")


def folder(release: str) -> Path | None:
    """The folder to put on the import path for the real release; None where there is none."""
    root = os.environ.get(VARIABLE)
    if not root:
        return None
    found = Path(root).resolve() / release
    return found if (found / "sglang" / "srt").is_dir() else None


def advice(release: str) -> str:
    """Why the real release is not here, and the command that brings it."""
    root = os.environ.get(VARIABLE) or "FOLDER"
    why = f"there is no {root}/{release}/sglang" if os.environ.get(VARIABLE) else f"{VARIABLE} names no folder"
    return f"{why}: pip install --no-deps --target={root}/{release} sglang=={release}"
