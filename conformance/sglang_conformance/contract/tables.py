"""The tables that come with the kit: a JSON file for the contract and for the server arguments of each SGLang release.

What can be named in them, the index, is one file for all releases.
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

from .errors import ContractError
from .index import Index
from .model import Contract
from .server_args import ServerArguments

__all__ = [
    "ContractError",
    "digest",
    "dump",
    "index_path",
    "load",
    "load_from",
    "load_index",
    "load_indexes",
    "load_server_args",
    "load_server_args_before",
    "newest",
    "path",
    "releases",
    "server_args_path",
    "server_args_releases",
]

SERVER_ARGS = "server_args"
INDEX = "index.xz"
"""What lies beside the contracts in a folder of tables: a folder of the server arguments, and the file of indexes."""


def releases() -> tuple[str, ...]:
    """The releases that have a contract table, oldest first."""
    return _releases(_folder())


def newest() -> str:
    """The newest release that has a contract table."""
    return releases()[-1]


def path(release: str) -> Path:
    """The file of a release's table; raises ContractError, with the releases there are, where it has none."""
    return _path(_folder(), release, "contract table")


def load(release: str) -> Contract:
    """The table of a release; raises ContractError for a release that has none, or a table that is damaged."""
    return load_from(_folder(), release)


def load_from(folder: Path, release: str) -> Contract:
    """The same, out of another folder of tables."""
    file = _path(folder, release, "contract table")
    try:
        return Contract.from_json(json.loads(file.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged("contract table", file, error) from error


def server_args_releases() -> tuple[str, ...]:
    """The releases that have a table of server arguments, oldest first."""
    return _releases(_server_args_folder())


def server_args_path(release: str) -> Path:
    """The file of a release's server arguments; raises ContractError, with the releases there are, without one."""
    return _path(_server_args_folder(), release, "table of server arguments")


def load_server_args(release: str) -> ServerArguments:
    """The server arguments of a release; raises ContractError for one that has no table, or a table that is damaged."""
    file = server_args_path(release)
    try:
        return ServerArguments.from_json(json.loads(file.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged("table of server arguments", file, error) from error


def load_server_args_before(release: str) -> ServerArguments:
    """Those of the newest release with a table that is not after this one: a post-release has its base release's.

    Raises ContractError where every table is of a later release.
    """
    from packaging.version import Version

    earlier = [known for known in server_args_releases() if Version(known) <= Version(release)]
    if not earlier:
        raise ContractError(f"no table of server arguments for SGLang {release}, nor for a release before it")
    return load_server_args(earlier[-1])


def index_path() -> Path:
    """The file that holds the index of every release."""
    return _folder() / INDEX


def load_index(release: str) -> Index:
    """What can be named in a release; raises ContractError for a release that has no index, or a damaged file."""
    return load_indexes(release)[0]


def load_indexes(*releases: str) -> tuple[Index, ...]:
    """The indexes of several releases, in that order, quicker than one by one; raises as :func:`load_index` does."""
    from .index_file import loads

    file = index_path()
    try:
        unpacked = loads(file.read_bytes())
        return tuple(unpacked.index(release) for release in releases)
    except OSError as error:
        raise ContractError(f"cannot read {file} ({error.strerror}); install the kit again") from error


def dump(table: Contract | ServerArguments) -> str:
    """The text of a table file: keys sorted, one value a line, a newline at the end; equal tables, equal text."""
    return json.dumps(table.to_json(), indent=1, sort_keys=True) + "\n"


def digest(contract: Contract) -> str:
    """The SHA-256, in hex, of the contract as canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(contract.to_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _folder() -> Path:
    return Path(str(resources.files(__package__) / "tables"))


def _server_args_folder() -> Path:
    return _folder() / SERVER_ARGS


def _releases(folder: Path) -> tuple[str, ...]:
    from packaging.version import Version

    return tuple(sorted((p.stem for p in folder.glob("*.json")), key=Version))


def _path(folder: Path, release: str, what: str) -> Path:
    # Membership by name, so that a release such as "../x" names no file elsewhere.
    found = {p.stem: p for p in folder.glob("*.json")}
    if release not in found:
        raise ContractError(f"no {what} for SGLang {release}; there are: {', '.join(_releases(folder))}")
    return found[release]


def _damaged(what: str, file: Path, error: Exception) -> ContractError:
    return ContractError(f"the {what} {file} is damaged ({error!r}); install the kit again")
