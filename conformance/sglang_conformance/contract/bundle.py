"""Adding a release to a folder of tables: its contract, its server arguments and its index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from . import extract, extract_index, extract_server_args, index_file, tables
from .diff import ContractDiff, diff
from .errors import ContractError
from .index import Index
from .target_diff import TargetDiff, target_diff


@dataclass(frozen=True)
class Added:
    """A release that was added: the files written, and what differs from the newest release before it, if any.

    ``others``: how many more releases the folder has.
    """

    release: str
    others: int
    files: tuple[Path, ...]
    changes: ContractDiff | None
    targets: TargetDiff | None


def add(package: Path, folder: Path) -> Added:
    """Read a package and write its tables into ``folder``, in place of those that are there for its release.

    ``package`` is a wheel, a folder that holds ``sglang/``, or that folder. Raises ContractError, before anything is
    written, where it cannot be read, and where ``folder`` is none or holds a damaged file; OSError where a file cannot
    be written.
    """
    if not folder.is_dir():
        raise ContractError(f"{folder} is no folder; name the one that holds the tables, or make it")
    contract, arguments = extract.extract(package), extract_server_args.extract(package)
    index = extract_index.extract(package)
    others = _others(folder, index.release)
    before = max((other for other in others if Version(other) < Version(index.release)), key=Version, default=None)
    changes = diff(tables.load_from(folder, before), contract) if before is not None else None
    targets = target_diff(others[before], index) if before is not None else None
    files = {
        folder / f"{contract.release}.json": tables.dump(contract).encode(),
        folder / tables.SERVER_ARGS / f"{arguments.release}.json": tables.dump(arguments).encode(),
        folder / tables.INDEX: index_file.dumps([*others.values(), index]),
    }
    for file, data in files.items():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    return Added(contract.release, len(others), tuple(files), changes, targets)


def _others(folder: Path, release: str) -> dict[str, Index]:
    """The indexes of the other releases that the folder has, by release."""
    file = folder / tables.INDEX
    unpacked = index_file.loads(file.read_bytes()) if file.is_file() else index_file.IndexFile((), [])
    lost = {contract.stem for contract in folder.glob("*.json")} - {*unpacked.releases, release}
    if lost:
        raise ContractError(
            f"{folder} has no index of {', '.join(sorted(lost))}, whose contract is there; "
            "name a whole folder of tables, or an empty one"
        )
    return {other: unpacked.index(other) for other in unpacked.releases if other != release}
