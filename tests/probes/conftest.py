"""Warm processes for the tests of probes: one that is ready in a tenth of a second, one with torch in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sglang_conformance.probes import client
from sglang_conformance.probes.client import Warm, Zygote

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[1])}


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """A zygote that preloads the tests' jobs."""
    started = client.start(["probes.jobs"], ENVIRONMENT)
    yield started
    started.close()


@pytest.fixture
def warm(zygote: Zygote) -> Iterator[Warm]:
    """A warm process of the test's own, which it may lose."""
    connected = client.connect(zygote.address)
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def torch_zygote() -> Iterator[Zygote]:
    """A zygote that preloads what a run does first: torch."""
    started = client.start(["torch", "probes.jobs"], ENVIRONMENT)
    yield started
    started.close()


@pytest.fixture
def torch_warm(torch_zygote: Zygote) -> Iterator[Warm]:
    """A warm process with torch imported."""
    connected = client.connect(torch_zygote.address)
    yield connected
    connected.close()
