"""The entry points that a project's files declare: pyproject.toml, setup.cfg, setup.py, entry_points.txt."""

from __future__ import annotations

import ast
import configparser
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..contract import syntax
from ..contract.errors import ContractError
from .folding import folded
from .plugin import EntryPoint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Declared:
    """What one file says. ``problem`` is a line where it could not be read, or says it elsewhere."""

    name: str = ""
    version: str = ""
    points: tuple[EntryPoint, ...] = ()
    problem: str = ""


def from_text(text: str, where: str) -> tuple[EntryPoint, ...]:
    """The entry points of an ``entry_points.txt``; raises configparser.Error where it is none."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]  # names keep their case
    parser.read_string(text)
    return tuple(
        EntryPoint(group, name, value, where) for group in parser.sections() for name, value in parser[group].items()
    )


def pyproject(text: bytes, where: str = "pyproject.toml") -> Declared:
    """What ``[project.entry-points]``, or poetry's ``plugins``, declare."""
    try:
        data = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return Declared(problem=f"{where} is not TOML: {error}")
    poetry = _table(_table(data, "tool"), "poetry")
    project = _table(data, "project") or poetry
    groups = {**_table(poetry, "plugins"), **_table(_table(data, "project"), "entry-points")}
    return Declared(str(project.get("name", "")), str(project.get("version", "")), tuple(_points(groups, where)))


def setup_cfg(text: bytes, where: str = "setup.cfg") -> Declared:
    """What ``[options.entry_points]`` declares."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text.decode())
    except (configparser.Error, UnicodeDecodeError) as error:
        return Declared(problem=f"{where} cannot be read: {str(error).splitlines()[0]}")
    groups = dict(parser["options.entry_points"]) if parser.has_section("options.entry_points") else {}
    metadata = parser["metadata"] if parser.has_section("metadata") else {}
    listed = {group: _lines(value) for group, value in groups.items()}
    version = metadata.get("version", "")
    version = "" if version.startswith(("attr:", "file:")) else version
    return Declared(metadata.get("name", ""), version, tuple(_points(listed, where)))


def setup_py(text: bytes, where: str = "setup.py") -> Declared:
    """What a call of ``setup(entry_points=...)`` declares in constants; nothing is run."""
    try:
        module = syntax.parse(text, where)
    except ContractError as error:
        return Declared(problem=str(error))
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and syntax.last_name(node.func) == "setup":
            values: dict[str, Any] = {}
            for keyword in node.keywords:
                value = folded(keyword.value, module)
                if keyword.arg:
                    values[keyword.arg] = value
                elif isinstance(value, dict):
                    values.update(value)
            return _of_setup(values, where)
    return Declared()


def _of_setup(values: Mapping[str, Any], where: str) -> Declared:
    groups, problem = values.get("entry_points", {}), ""
    if isinstance(groups, str):
        points = from_text(groups, where)
    elif isinstance(groups, dict):
        points = tuple(_points({g: _lines(v) if isinstance(v, str) else v for g, v in groups.items()}, where))
    else:
        points, problem = (), f"{where} computes its entry_points; install the plugin, and name the distribution"
    name, version = (str(values[key]) if isinstance(values.get(key), str) else "" for key in ("name", "version"))
    return Declared(name, version, points, problem)


def _table(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if "=" in line]


def _points(groups: Mapping[str, Any], where: str) -> Iterator[EntryPoint]:
    """A group's points are a table of names, or lines of ``name = value``."""
    for group, points in groups.items():
        if isinstance(points, dict):
            pairs = [(str(name), str(value)) for name, value in points.items()]
        elif isinstance(points, list):
            pairs = [(line.partition("=")[0].strip(), line.partition("=")[2].strip()) for line in map(str, points)]
        else:
            continue
        yield from (EntryPoint(group, name, value, where) for name, value in pairs)
