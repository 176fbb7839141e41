"""Known failures that somebody answers for, each bound to a requirement, a platform, a link and a last day.

A waivers file is TOML::

    [[waiver]]
    requirement = "MEM-002"
    platform = "mlu"
    owner = "memory-team@vendor.example"
    link = "https://vendor.example/issues/17"
    expires = 2026-12-31
    reason = "free memory is read before the driver has settled"
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class WaiverError(ValueError):
    """A waivers file cannot be used as it is; its text is one line naming the file and the waiver."""


@dataclass(frozen=True)
class Waiver:
    """One known failure. ``expires`` is the last day on which it counts."""

    requirement: str
    platform: str
    owner: str
    link: str
    expires: date
    reason: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.owner}, until {self.expires.isoformat()}, {self.link})"


@dataclass(frozen=True)
class Waivers:
    """What a waivers file holds: those that count today, and those to report because they no longer do."""

    valid: tuple[Waiver, ...] = ()
    expired: tuple[Waiver, ...] = ()


_FIELDS = tuple(f.name for f in fields(Waiver))
_EXAMPLE = (
    '[[waiver]] requirement = "MEM-002", platform = "mlu", owner = "you@vendor.example", '
    'link = "https://vendor.example/issues/17", expires = 2026-12-31, reason = "why, and until when" (a line each)'
)


def load(path: Path, *, today: date, known: Container[str]) -> Waivers:
    """Read a waivers file.

    ``known`` holds the ids of the catalogue. Raises :class:`WaiverError` for an unreadable file, a table with a
    missing or unknown field, a requirement that does not exist, or one that is waived twice for one platform.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WaiverError(f"{path}: there is no such waivers file") from None
    except IsADirectoryError:
        raise WaiverError(f"{path}: is a folder; --waivers takes a file") from None
    except (OSError, ValueError) as error:
        raise WaiverError(f"{path}: cannot be read as TOML: {_one_line(error)}") from None
    tables = data.pop("waiver", [])
    if data or not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise WaiverError(f"{path}: may hold nothing but [[waiver]] tables, as {_EXAMPLE}")
    waivers = [_read(path, position, table, known) for position, table in enumerate(tables, 1)]
    seen: set[tuple[str, str]] = set()
    for waiver in waivers:
        key = (waiver.requirement, waiver.platform)
        if key in seen:
            raise WaiverError(f"{path}: {waiver.requirement} is waived twice for {waiver.platform}")
        seen.add(key)
    return Waivers(
        valid=tuple(w for w in waivers if w.expires >= today),
        expired=tuple(w for w in waivers if w.expires < today),
    )


def _read(path: Path, position: int, table: Mapping[str, Any], known: Container[str]) -> Waiver:
    here = f"{path}: waiver {position}"
    for unknown in [key for key in table if key not in _FIELDS]:
        raise WaiverError(f"{here}: unknown field {unknown}")
    missing = [key for key in _FIELDS if key not in table]
    if missing:
        raise WaiverError(f"{here}: {', '.join(missing)} missing; a waiver reads {_EXAMPLE}")
    for key, value in table.items():
        if key == "expires":
            if not isinstance(value, date) or isinstance(value, datetime):
                raise WaiverError(f"{here}: expires must be a date without quotes, as 2026-12-31")
        elif not isinstance(value, str) or not value.strip():
            raise WaiverError(f"{here}: {key} must be a text, and not empty")
    if table["requirement"] not in known:
        raise WaiverError(f"{here}: there is no requirement {table['requirement']}")
    if not re.match(r"https?://\S+$", table["link"]):
        raise WaiverError(f"{here}: link must be an http or https address")
    return Waiver(**table)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
