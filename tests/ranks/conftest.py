"""A warm process with torch in it, a store to meet in, and a pool of ranks that have met."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sglang_conformance.probes import client
from sglang_conformance.probes.client import Warm
from sglang_conformance.ranks.group import Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.store import Keeper

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[1])}
MODULES = ("torch", "torch.distributed", "ranks.bodies", "sglang_conformance.ranks.rank")


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    zygote = client.start(MODULES, ENVIRONMENT)
    connected = client.connect(zygote.address)
    yield connected
    connected.close()
    zygote.close()


@pytest.fixture(scope="session")
def store(warm: Warm) -> Iterator[str]:
    keeper = Keeper(warm)
    yield keeper.address
    keeper.close()


@pytest.fixture(scope="session")
def pool(warm: Warm, store: str) -> Iterator[Pool]:
    made = Pool(warm, Setup("ranks.bodies:join", {"store": store}))
    yield made
    made.close()
