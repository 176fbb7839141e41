"""The warm process that all of the zoo shares, and the matrix at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sglang_conformance.probes import client
from sglang_conformance.stages import BuiltIn, preloaded
from zoo.inspection import Bench


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    zygote = client.start(preloaded())
    warm = client.connect(zygote.address)
    built_in = BuiltIn(warm)
    yield Bench(zygote.address, built_in)
    built_in.close()
    warm.close()
    zygote.close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove what the zoo's plugins leave in shared memory, where they are made to: once no worker looks at it."""
    if not hasattr(session.config, "workerinput"):
        for file in Path("/dev/shm").glob("zoo-car-*"):
            file.unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for group in ("passed", "failed") for r in terminalreporter.stats.get(group, [])]
    rows = sorted(value for r in reports for name, value in getattr(r, "user_properties", ()) if name == "zoo")
    if rows:
        terminalreporter.section("the zoo: defect, requirement that must catch it, what caught it")
        for row in rows:
            terminalreporter.write_line(row)
