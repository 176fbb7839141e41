"""Picking the host and the contract, in the controller: nothing of SGLang is imported here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..contract import tables
from ..contract.model import Contract

HostKind = Literal["reference", "installed"]


class HostError(RuntimeError):
    """The wanted host, or the wanted release of it, is not to be had here."""


@dataclass(frozen=True)
class Host:
    """A host and the contract that its release makes."""

    kind: HostKind
    contract: Contract
    digest: str

    @property
    def release(self) -> str:
        """The SGLang release."""
        return self.contract.release


def choose(wanted: str, release: str | None) -> Host:
    """The host for ``--sglang`` (auto, reference or installed) and ``--contract`` (None: not given).

    Raises HostError where SGLang is wanted and not installed, or the release has no contract table.
    """
    folder = _installed_folder()
    if wanted == "installed" or (wanted == "auto" and folder is not None and release in (None, _installed_release())):
        if folder is None:
            raise HostError(
                "--sglang=installed: no SGLang is installed in this environment; "
                "install it (pip install sglang), or use --sglang=reference"
            )
        return _installed(folder, release)
    return _reference(release or tables.newest())


def _reference(release: str) -> Host:
    try:
        contract = tables.load(release)
    except ValueError as error:
        raise HostError(
            f"--contract={release}: {error}; any other is certified inside that SGLang itself, with --sglang=installed"
        ) from error
    return Host("reference", contract, tables.digest(contract))


def _installed(folder: Path, release: str | None) -> Host:
    own = _installed_release()
    if release not in (None, own):
        raise HostError(
            f"--contract={release}: the installed SGLang is {own}, and it can only be certified for itself; "
            "leave --contract out, or use --sglang=reference"
        )
    if own in tables.releases():
        contract = tables.load(own)
    else:
        from ..contract.extract import extract

        contract = extract(folder)
    return Host("installed", contract, _digest(folder))


def _installed_folder() -> Path | None:
    """The installed package's folder, found without importing it."""
    spec = importlib.util.find_spec("sglang")
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return next((Path(place) for place in locations if (Path(place) / "srt" / "platforms").is_dir()), None)


def _installed_release() -> str:
    try:
        return importlib.metadata.version("sglang")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _digest(folder: Path) -> str:
    """Of the files that hold the contract: two hosts with one digest behave alike towards a platform."""
    rooms = (folder / "srt" / "platforms", folder / "srt" / "plugins")
    digest = hashlib.sha256()
    for file in sorted(path for room in rooms for path in room.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return f"sha256:{digest.hexdigest()}"
