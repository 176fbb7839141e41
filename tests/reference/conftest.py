from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import sglang_reference
from sglang_conformance.contract import tables

Install = Callable[..., dict[str, Any]]
Plugin = Callable[..., Path]

PLATFORM_SOURCE = """
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import SRTPlatform

class Platform(SRTPlatform):
    _enum = PlatformEnum.OOT
    device_name = "{name}"
    device_type = "{name}"

    def get_torch_distributed_backend_str(self):
        return "{name}-backend"

def activate():
    return __name__ + ".Platform"
"""


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("SGLANG_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def install() -> Iterator[Install]:
    """Install the reference for a release, with changes to its table; it is gone again after the test."""

    def installed(release: str = "0.5.23", **changes: Any) -> dict[str, Any]:
        table = {**tables.load(release).to_json(), **changes}
        sglang_reference.install(table, lambda: tables.load_server_args_before(release).to_json())
        return table

    yield installed
    sglang_reference.uninstall()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    """Install a distribution: its module's source, and its entry points as group to name to function."""
    modules: list[str] = []

    def made(distribution: str, source: str, **groups: Mapping[str, str]) -> Path:
        folder, module = tmp_path / distribution, distribution.replace("-", "_")
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = []
        for group, points in groups.items():
            lines += [f"[sglang.srt.{group}]", *(f"{name} = {module}:{f}" for name, f in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        modules.append(module)
        monkeypatch.syspath_prepend(folder)
        return folder

    yield made
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def platform_plugin(plugin: Plugin) -> Plugin:
    """Install a distribution ``vendor-NAME`` with a platform plugin NAME that activates."""

    def made(name: str, extra: str = "", **groups: Mapping[str, str]) -> Path:
        return plugin(
            f"vendor-{name}", PLATFORM_SOURCE.format(name=name) + extra, platforms={name: "activate"}, **groups
        )

    return made


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="sglang.srt")
    return caplog


@pytest.fixture
def module() -> Callable[[str], Any]:
    return importlib.import_module
