"""Where a platform is certified: on the reference, following a release's table, or inside a release, unpacked."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from packaging.version import InvalidVersion, Version

from ..contract import tables
from ..errors import OptionError
from ..subject import UnknownPlatform, find


@dataclass(frozen=True)
class Place:
    """One SGLang to certify in.

    ``folder``: where it lies unpacked, to be put on the import path; None for the reference. ``without``: why it has
    nothing to certify, where the release brings no platform of that name; empty where it has.
    """

    release: str
    folder: Path | None = None
    without: str = ""

    @property
    def host(self) -> str:
        """``reference`` or ``installed``, as ``--sglang`` takes it."""
        return "reference" if self.folder is None else "installed"


def places(platform: str, wanted: str | None, sglang_at: Path | None) -> tuple[Place, ...]:
    """The places to certify in, oldest release first; ``wanted`` names releases, by commas (None: all there are).

    Raises OptionError, with one clear line, for a release that is not there, a folder that holds none, and a platform
    that neither is installed nor comes with any of the releases; ContractError for a damaged table.
    """
    found = _unpacked(sglang_at) if sglang_at is not None else dict.fromkeys(tables.releases())
    chosen = _chosen(wanted, tuple(found), sglang_at)
    judged = [Place(release, found[release], _without(platform, release)) for release in chosen]
    if all(place.without for place in judged):
        _refuse(platform, judged[-1].release)
    return tuple(judged)


def _refuse(platform: str, release: str) -> NoReturn:
    """Say what platforms there are, in the words of a single certification."""
    try:
        find(platform, tables.load(release))
    except UnknownPlatform as error:
        raise OptionError(str(error).removeprefix("--platform=")) from None
    raise OptionError(f"{platform}: no such platform for SGLang {release}")


def _unpacked(home: Path) -> dict[str, Path | None]:
    """The releases in the folder's own folders, by the metadata that the installer left there, oldest first."""
    if not home.is_dir():
        raise OptionError(f"--sglang-at={home}: no such folder; name one whose folders hold a release each")
    found = {release: folder for folder in home.iterdir() for release in _release_in(folder)}
    if not found:
        raise OptionError(
            f"--sglang-at={home}: none of its folders holds a release; make one by "
            f"pip install --no-deps --target {home}/{tables.newest()} sglang=={tables.newest()}"
        )
    return {release: found[release].resolve() for release in sorted(found, key=Version)}


def _release_in(folder: Path) -> Iterator[str]:
    """The release that is installed in a folder; nothing where none is."""
    if (folder / "sglang" / "srt" / "platforms").is_dir():
        for distribution in importlib.metadata.distributions(name="sglang", path=[str(folder)]):
            try:
                yield str(Version(distribution.version))
            except InvalidVersion:
                continue


def _chosen(wanted: str | None, there: Sequence[str], sglang_at: Path | None) -> list[str]:
    if wanted is None:
        return list(there)
    names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    missing = [name for name in names if name not in there]
    if missing or not names:
        where = "with a contract table" if sglang_at is None else f"in {sglang_at}"
        told = f"no SGLang {', '.join(missing)} {where}" if missing else "no release is named"
        raise OptionError(f"--contract={wanted}: {told}; there are: {', '.join(there)}")
    return [release for release in there if release in names]


def _without(platform: str, release: str) -> str:
    """Why a release has no platform of that name; empty where it has, or where no table tells."""
    if release not in tables.releases():
        return ""
    contract = tables.load(release)
    try:
        find(platform, contract)
    except UnknownPlatform:
        return f"SGLang {release} brings {', '.join(contract.detection) or 'no platform'}"
    return ""
