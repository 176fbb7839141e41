"""Find a plugin and read its files: an installed distribution, a wheel, or a source folder. Nothing is imported."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from . import declared
from .plugin import GROUPS, EntryPoint, Plugin, PluginError, SourceFile, module_of

_NOT_THE_PLUGIN = frozenset({"test", "tests", "build", "dist", "node_modules", "__pycache__"})
_COMPILED = (".so", ".pyd")
_DEEPEST = 3
_LARGEST = 4_000_000


def open_plugin(text: str) -> Plugin:
    """The plugin that a user names: a path, a distribution, or the entry-point name of an installed platform.

    Raises PluginError with one line where there is none, or where it has no entry point that SGLang reads.
    """
    path = Path(text)
    try:
        if path.is_dir():
            plugin = _folder(path)
        elif path.is_file():
            plugin = _wheel(path)
        elif os.sep in text or text.endswith(".whl"):
            raise PluginError(f"{text} does not exist; name a wheel, a source folder, or an installed distribution")
        else:
            plugin = _installed(_named(text), text)
    except OSError as error:
        raise PluginError(f"cannot read {error.filename or text}: {error.strerror or error}") from error
    return _seen_through(plugin, text)


def open_installed(name: str, home: Path) -> Plugin:
    """The plugin of a distribution that is installed in a folder, which need not be on the import path.

    Raises PluginError as :func:`open_plugin` does.
    """
    found = next(iter(importlib.metadata.distributions(name=name, path=[str(home)])), None)
    if found is None:
        raise PluginError(f"no distribution {name} is installed in {home}")
    try:
        return _seen_through(_installed(found, name), name)
    except OSError as error:
        raise PluginError(f"cannot read {error.filename or home}: {error.strerror or error}") from error


def _seen_through(plugin: Plugin, text: str) -> Plugin:
    """The plugin, with what its entry points name and was not found told as not read."""
    _see_that_it_is_one(plugin.entry_points, text, plugin.unread)
    missing = [p.module for p in plugin.entry_points if p.group in GROUPS and p.module not in _modules(plugin)]
    unread = (*plugin.unread, *(f"{m}: no such module was found in {plugin.name}" for m in dict.fromkeys(missing)))
    return Plugin(plugin.name, plugin.version, plugin.entry_points, plugin.files, unread, plugin.path)


def _see_that_it_is_one(points: Iterable[EntryPoint], text: str, problems: Iterable[str] = ()) -> None:
    if not any(point.group in GROUPS for point in points):
        reasons = "; ".join(problems)
        told = f" ({reasons})" if reasons else ""
        raise PluginError(
            f"{text} declares no entry point in the group {' or '.join(GROUPS)}{told}; name an SGLang plugin, "
            "or the folder that has its pyproject.toml"
        )


def see_that_some_was_read(plugin: Plugin) -> None:
    """Raise PluginError where a plugin has no Python file at all: of such a one, nothing can be said."""
    if not plugin.files:
        raise PluginError(f"nothing of {plugin.name} could be read: {'; '.join(plugin.unread)}")


def _modules(plugin: Plugin) -> frozenset[str]:
    return frozenset(file.module for file in plugin.files)


# ---- a source folder


def _folder(path: Path) -> Plugin:
    parts = list(_declarations(path))
    points = tuple(dict.fromkeys(point for part in parts for point in part.points))
    seen: dict[tuple[str, str], EntryPoint] = {}
    for point in points:
        seen.setdefault((point.group, point.name), point)
    problems = [part.problem for part in parts if part.problem]
    files, homes = _packages(path, seen.values(), problems)
    name = next((part.name for part in parts if part.name), path.resolve().name)
    version = next((part.version for part in parts if part.version), "")
    return Plugin(name, version, tuple(seen.values()), tuple(files), tuple(problems), homes[0] if homes else path)


def _packages(
    path: Path, points: Iterable[EntryPoint], problems: list[str], deepest: int = _DEEPEST
) -> tuple[list[SourceFile], list[Path]]:
    """The files of the packages that entry points name, and the folders that hold them."""
    files: list[SourceFile] = []
    homes: list[Path] = []
    for package in dict.fromkeys(point.module.split(".")[0] for point in points if point.group in GROUPS):
        home = _home(path, package, deepest)
        if home is None:
            problems.append(f"{package}: no such package was found in {path}")
            continue
        homes.append(home)
        found = [home / f"{package}.py"] if (home / f"{package}.py").is_file() else _python(home / package, problems)
        for file in found:
            read = _read(file.relative_to(home).as_posix(), file.read_bytes(), problems)
            if read is not None:
                files.append(read)
    return files, homes


def _declarations(path: Path) -> Iterator[declared.Declared]:
    for name, reader in (
        ("pyproject.toml", declared.pyproject),
        ("setup.cfg", declared.setup_cfg),
        ("setup.py", declared.setup_py),
    ):
        if (path / name).is_file():
            yield reader((path / name).read_bytes())
    for name in ("*.egg-info", "src/*.egg-info", "*.dist-info"):
        for file in sorted(path.glob(f"{name}/entry_points.txt")):
            where = file.relative_to(path).as_posix()
            yield _metadata(file.read_text(encoding="utf-8", errors="replace"), where)


def _metadata(text: str, where: str) -> declared.Declared:
    try:
        return declared.Declared(points=declared.from_text(text, where))
    except configparser.Error as error:
        return declared.Declared(problem=f"{where} cannot be read: {str(error).splitlines()[0]}")


def _home(path: Path, package: str, deepest: int) -> Path | None:
    """The nearest folder, a few levels down, that holds the package, as ``src``; one with ``__init__`` first."""
    levels = [[path]]
    for _ in range(deepest - 1):
        levels.append([f for folder in levels[-1] for f in sorted(folder.iterdir()) if _may_hold(f)])
    folders = [folder for level in levels for folder in level]
    for holds in (f"{package}/__init__.py", f"{package}.py"):
        found = next((folder for folder in folders if (folder / holds).is_file()), None)
        if found is not None:
            return found
    return next((folder for folder in folders if (folder / package).is_dir()), None)


def _may_hold(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".") and folder.name not in _NOT_THE_PLUGIN


def _python(package: Path, problems: list[str]) -> list[Path]:
    found = []
    for where, folders, files in os.walk(package):
        folders[:] = sorted(f for f in folders if _may_hold(Path(where, f)))
        for name in sorted(files):
            if name.endswith(".py"):
                found.append(Path(where, name))
            elif name.endswith(_COMPILED):
                problems.append(_compiled(Path(where, name).relative_to(package.parent).as_posix()))
    return found


# ---- a wheel


def _wheel(path: Path) -> Plugin:
    try:
        with zipfile.ZipFile(path) as archive:
            return _of_archive(path, archive)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise PluginError(f"{path} is not a readable wheel ({error}); name a whole one, or a source folder") from error


def _of_archive(path: Path, archive: zipfile.ZipFile) -> Plugin:
    names = archive.namelist()
    metadata = next((n for n in names if n.endswith(".dist-info/entry_points.txt")), None)
    if metadata is None:
        raise PluginError(f"{path} has no entry_points.txt: it is not the wheel of an SGLang plugin")
    points = _metadata(archive.read(metadata).decode("utf-8", "replace"), metadata)
    problems = [points.problem] if points.problem else []
    _see_that_it_is_one(points.points, str(path), problems)
    texts = ((n, archive.read(n)) for n in _wanted(names, problems) if _size(archive, n, problems))
    files = [_read(name, text, problems) for name, text in texts]
    name, _, version = metadata.split("/")[0].removesuffix(".dist-info").rpartition("-")
    read = tuple(file for file in files if file is not None)
    return Plugin(name or path.stem, version, points.points, read, tuple(problems), path)


def _size(archive: zipfile.ZipFile, name: str, problems: list[str]) -> bool:
    size = archive.getinfo(name).file_size
    if size > _LARGEST:
        problems.append(f"{name} is too large to read: {size} bytes")
    return size <= _LARGEST


# ---- an installed distribution


def _named(text: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(text)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return _provider(text)


def _installed(distribution: importlib.metadata.Distribution, text: str) -> Plugin:
    points = tuple(EntryPoint(p.group, p.name, p.value, "entry_points.txt") for p in distribution.entry_points)
    _see_that_it_is_one(points, text)
    name, version = distribution.metadata["Name"] or text, distribution.version
    home = _editable(distribution)
    if home is not None:
        source = _folder(home)
        return Plugin(name, version, points, source.files, source.unread)
    problems: list[str] = []
    if distribution.files is None:  # it has no list of its files, as where a system's package manager put it there
        found, _ = _packages(Path(str(distribution.locate_file(""))), points, problems, deepest=1)
        return Plugin(name, version, points, tuple(found), tuple(problems))
    located = {str(file): Path(str(file.locate())) for file in distribution.files}
    wanted = [(n, located[n]) for n in _wanted(located, problems)]
    problems += [f"{n} is listed by {name}, but is not there" for n, path in wanted if not path.is_file()]
    files = [_read(n, path.read_bytes(), problems) for n, path in wanted if path.is_file()]
    return Plugin(name, version, points, tuple(file for file in files if file is not None), tuple(problems))


def _provider(text: str) -> importlib.metadata.Distribution:
    """The distribution that provides a platform or hook plugin of that name."""
    installed = set()
    for distribution in importlib.metadata.distributions():
        for point in distribution.entry_points:
            if point.group in GROUPS:
                if point.name == text:
                    return distribution
                installed.add(distribution.metadata["Name"] or "")
    known = ", ".join(sorted(installed)) or "none"
    raise PluginError(f"{text} is no file, folder or installed distribution; installed SGLang plugins: {known}")


def _editable(distribution: importlib.metadata.Distribution) -> Path | None:
    """The source folder of an editable installation (PEP 610)."""
    try:
        data = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    if not isinstance(data, dict) or not (data.get("dir_info") or {}).get("editable"):
        return None
    return Path(unquote(urlparse(str(data.get("url", ""))).path))


# ---- files


def _wanted(names: Iterable[str], problems: list[str]) -> list[str]:
    """The Python files of a distribution, without its tests; compiled modules are told as not read."""
    found = []
    for name in sorted(names):
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == ".." or name.startswith("/") or not _NOT_THE_PLUGIN.isdisjoint(parts[:-1]):
            continue
        if name.endswith(".py"):
            found.append(name)
        elif name.endswith(_COMPILED):
            problems.append(_compiled(name))
    return found


def _read(name: str, text: bytes, problems: list[str]) -> SourceFile | None:
    if len(text) > _LARGEST:
        problems.append(f"{name} is too large to read: {len(text)} bytes")
        return None
    module, package = module_of(name)
    return SourceFile(name, module, text, package)


def _compiled(name: str) -> str:
    return f"{name} is compiled: what it does with SGLang is not judged"
