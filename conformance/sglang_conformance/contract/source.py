"""Read the Python text of an SGLang package: an unpacked tree, a wheel or an installed folder, never importing it."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from .errors import ContractError

# What zipfile raises for a member whose bytes are not what the archive's directory says.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


class Source(Protocol):
    """The files of one package; every path is relative to the ``sglang`` package, with forward slashes.

    Made by :func:`opened`, which turns the OSError of any file that cannot be read into a ContractError.
    """

    @property
    def origin(self) -> Path:
        """Where the package lies, for messages."""
        ...

    def names(self, *folders: str) -> tuple[str, ...]:
        """Every Python file under these folders of the package, sorted; without folders, those of the whole package."""
        ...

    def has(self, name: str) -> bool:
        """Whether the package has this file."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of one file; raises ContractError where a wheel is damaged."""
        ...

    def distribution(self) -> str:
        """The release that the distribution's own metadata names; empty where there is none."""
        ...


@dataclass(frozen=True)
class Tree:
    """A package that lies unpacked in ``package``, the folder named ``sglang``."""

    package: Path

    @property
    def origin(self) -> Path:
        """The package's folder."""
        return self.package

    def names(self, *folders: str) -> tuple[str, ...]:
        """Every Python file under these folders, sorted."""
        found = []
        for folder in (f for f in folders or (".",) if (self.package / f).is_dir()):
            for where, _, files in os.walk(self.package / folder, onerror=_raise):
                inside = Path(where).relative_to(self.package)
                found += [(inside / file).as_posix() for file in files if file.endswith(".py")]
        return tuple(sorted(found))

    def has(self, name: str) -> bool:
        """Whether the file exists."""
        return (self.package / name).is_file()

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return (self.package / name).read_bytes()

    def distribution(self) -> str:
        """The release of the ``dist-info`` folder beside the package."""
        found = sorted(self.package.parent.glob("sglang-*.dist-info"))
        return _release_of(found[0].name) if len(found) == 1 else ""


@dataclass(frozen=True)
class Wheel:
    """A package inside a wheel, read in place."""

    path: Path
    archive: zipfile.ZipFile

    @property
    def origin(self) -> Path:
        """The wheel."""
        return self.path

    def names(self, *folders: str) -> tuple[str, ...]:
        """Every Python file under these folders, sorted."""
        starts = tuple(f"sglang/{folder}/" for folder in folders) or ("sglang/",)
        found = (n for n in self.archive.namelist() if n.startswith(starts) and n.endswith(".py"))
        return tuple(sorted(n.removeprefix("sglang/") for n in found))

    def has(self, name: str) -> bool:
        """Whether the archive lists the file."""
        return f"sglang/{name}" in self.archive.namelist()

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        try:
            return self.archive.read(f"sglang/{name}")
        except _DAMAGE as error:
            raise ContractError(f"the wheel {self.path} is damaged at sglang/{name}: {error}") from error

    def distribution(self) -> str:
        """The release of the wheel's ``dist-info`` folder."""
        tops = {PurePosixPath(n).parts[0] for n in self.archive.namelist() if n.strip("/")}
        found = sorted(t for t in tops if t.startswith("sglang-") and t.endswith(".dist-info"))
        return _release_of(found[0]) if len(found) == 1 else ""


def dotted_name(name: str) -> str:
    """The module that a file of the package is: ``sglang.srt.utils`` of ``srt/utils/__init__.py``."""
    path = PurePosixPath(name)
    return ".".join(("sglang", *(path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts)))


def _raise(error: OSError) -> None:
    raise error


def _release_of(dist_info: str) -> str:
    return dist_info.removeprefix("sglang-").removesuffix(".dist-info")


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a package for reading.

    ``path`` is a wheel, the folder ``sglang`` itself, or a folder that holds it (an unpacked wheel, site-packages, or
    a checkout with its ``python`` folder). Raises ContractError where there is nothing of the kind, and for any file
    that cannot be read while it is open.
    """
    try:
        if path.is_dir():
            yield Tree(_package_folder(path))
        elif path.is_file():
            with _archive(path) as archive:
                yield Wheel(path, archive)
        else:
            raise ContractError(f"{path} does not exist; name a folder that holds sglang/, or an sglang wheel")
    except OSError as error:
        raise ContractError(f"cannot read {error.filename or path}: {error.strerror or error}") from error


def _package_folder(path: Path) -> Path:
    for candidate in (path, path / "sglang", path / "python" / "sglang"):
        if (candidate / "srt").is_dir():
            return candidate
    raise ContractError(f"{path} is not an SGLang tree: it holds neither sglang/srt nor srt; name the folder that does")


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ContractError(f"{path} is not a readable wheel ({error}); download it again, or name a folder") from error
    if not any(name.startswith("sglang/srt/") for name in archive.namelist()):
        archive.close()
        raise ContractError(
            f"{path} is not an SGLang wheel: it holds no sglang/srt; get one by pip download --no-deps sglang"
        )
    return archive
