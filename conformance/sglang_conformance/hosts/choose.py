"""Picking the host and the contract, in the controller: nothing of SGLang is imported here."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.version import InvalidVersion, Version

from ..contract import tables
from ..contract.extract import extract, release_in
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

    Raises HostError where SGLang is wanted and not installed, or cannot be told which it is, or the release has no
    contract table; ContractError where a table, or the contract in the installed package, cannot be read.
    """
    folder = _installed_folder() if wanted != "reference" else None
    own = _release_of(folder) if folder is not None else ""
    if wanted == "installed" or (wanted == "auto" and folder is not None and release in (None, own)):
        if folder is None:
            raise HostError(
                "--sglang=installed: no SGLang is installed in this environment; "
                "install it (pip install sglang), or use --sglang=reference"
            )
        return _installed(folder, own, release)
    return _reference(release or tables.newest())


def _reference(release: str) -> Host:
    try:
        contract = tables.load(release)
    except ValueError as error:
        raise HostError(
            f"--contract={release}: {error}; any other is certified inside that SGLang itself, with --sglang=installed"
        ) from error
    return Host("reference", contract, tables.digest(contract))


def _installed(folder: Path, own: str, release: str | None) -> Host:
    if not own:
        raise HostError(
            f"the SGLang in {folder} does not say which release it is, and is not installed; "
            "install it (a checkout by pip install -e), or use --sglang=reference"
        )
    if release not in (None, own):
        raise HostError(
            f"--contract={release}: the installed SGLang is {own}, and it can only be certified for itself; "
            "leave --contract out, or use --sglang=reference"
        )
    oldest = tables.releases()[0]
    if Version(own) < Version(oldest):
        raise HostError(
            f"the installed SGLang says that it is {own}, and platforms have a contract since {oldest}; a checkout is "
            "named after its tags: fetch them (git fetch --tags) and install it again, or use --sglang=reference"
        )
    contract = tables.load(own) if own in tables.releases() else extract(folder, own)
    return Host("installed", contract, _digest(folder))


def _installed_folder() -> Path | None:
    """The installed package's folder, found without importing it."""
    spec = importlib.util.find_spec("sglang")
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return next((Path(place) for place in locations if (Path(place) / "srt" / "platforms").is_dir()), None)


def _release_of(folder: Path) -> str:
    """The release that SGLang takes itself for; empty where that is none.

    What the package says comes before its metadata (0.5.23, version.py): a checkout in front of an installed release on
    the import path is found with the metadata of the other.
    """
    told = release_in(folder)
    if not told:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            told = importlib.metadata.version("sglang")
    try:
        return str(Version(told)) if told else ""
    except InvalidVersion:
        return ""


def _digest(folder: Path) -> str:
    """Of the files that hold the contract: how a platform is chosen, plugins are loaded, and groups are made."""
    srt = folder / "srt"
    rooms = (srt / "platforms", srt / "plugins", srt / "distributed")
    digest = hashlib.sha256()
    for file in sorted([srt / "environ.py", *(path for room in rooms for path in room.rglob("*.py"))]):
        if file.is_file():
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return f"sha256:{digest.hexdigest()}"
