"""A run's checks on ranks, for the CPU on the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ranked import bodies
from sglang_conformance.certificate.model import Observation
from sglang_conformance.config import resolve
from sglang_conformance.probes import client
from sglang_conformance.requirements import loader
from sglang_conformance.session import Session
from sglang_conformance.stages import preloaded
from sglang_conformance.suite.declare import ATTRIBUTE

Judging = Callable[..., Observation]


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    zygote = client.start(preloaded(in_tree=True))
    yield zygote.address
    zygote.close()


@pytest.fixture
def session(address: str, request: pytest.FixtureRequest) -> Iterator[Session]:
    options = getattr(request, "param", {})
    config = resolve(
        platform="cpu",
        sglang="reference",
        contract=None,
        profile=None,
        waivers=None,
        certificate="unused",
        examples=options.get("examples", 20),
        deadline=options.get("deadline", 20.0),
        world_size=options.get("world_size"),
        folder=Path(),
    )
    made = Session(replace(config, paths=(str(Path(__file__).parents[1]),)), loader.load(), address)
    yield made
    made.close()


@pytest.fixture
def judged(session: Session) -> Judging:
    def judge(name: str) -> Observation:
        check = getattr(getattr(bodies, name), ATTRIBUTE)
        return session.judge(replace(check, requirements=("COL-001",)))

    return judge
