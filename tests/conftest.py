"""Hides the vendors' plugins of this environment from the tests, and from every process that they start.

A folder that shadows the metadata of each goes to the head of the import path, also of the processes to come. These
must also hear Ctrl-C, which some tests send, wherever the tests themselves were started.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

_METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 0\n"


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a script's background; what is started would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--platform", None):  # a certification, started in this folder
        return
    names = {
        distribution.name
        for distribution in importlib.metadata.distributions()
        if any(point.group.startswith("sglang.") for point in distribution.entry_points)
    }
    if not names:
        return
    folder = tempfile.TemporaryDirectory(prefix="sglang-conformance-tests-")
    config.add_cleanup(folder.cleanup)
    for name in names:
        metadata = Path(folder.name, f"{name.replace('-', '_')}-0.dist-info", "METADATA")
        metadata.parent.mkdir()
        metadata.write_text(_METADATA.format(name=name), encoding="utf-8")
    sys.path.insert(0, folder.name)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder.name, os.environ.get("PYTHONPATH"))))
