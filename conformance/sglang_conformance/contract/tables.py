"""The contract tables that come with the kit, one JSON file for each SGLang release."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

from .errors import ContractError
from .model import Contract

__all__ = ["ContractError", "digest", "dump", "load", "newest", "path", "releases"]


def releases() -> tuple[str, ...]:
    """The releases that have a table, oldest first."""
    from packaging.version import Version

    return tuple(sorted((p.stem for p in _folder().glob("*.json")), key=Version))


def newest() -> str:
    """The newest release that has a table."""
    return releases()[-1]


def path(release: str) -> Path:
    """The file of a release's table; raises ContractError, with the releases there are, where it has none."""
    # Membership by name, so that a release such as "../x" names no file elsewhere.
    found = {p.stem: p for p in _folder().glob("*.json")}
    if release not in found:
        raise ContractError(f"no contract table for SGLang {release}; there are: {', '.join(releases())}")
    return found[release]


def load(release: str) -> Contract:
    """The table of a release; raises ContractError for a release that has none, or a table that is damaged."""
    file = path(release)
    try:
        return Contract.from_json(json.loads(file.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError(f"the contract table {file} is damaged ({error!r}); install the kit again") from error


def dump(contract: Contract) -> str:
    """The text of a table file: keys sorted, one value a line, a newline at the end; equal contracts, equal text."""
    return json.dumps(contract.to_json(), indent=1, sort_keys=True) + "\n"


def digest(contract: Contract) -> str:
    """The SHA-256, in hex, of the contract as canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(contract.to_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _folder() -> Path:
    return Path(str(resources.files(__package__) / "tables"))
