"""The reference against the real releases, where they are: a few worlds a subject; ``python -m parity`` has many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from parity import releases, sides
from parity.lockstep import compare, drawn, misplaced
from parity.subjects import SHARES, shares
from sglang_conformance.probes.client import Zygote

_WORLDS = 60


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    started = sides.start()
    yield started
    started.close()


@pytest.mark.parametrize("release", releases.RELEASES)
def test_reference_tells_what_sglang_tells(release: str, request: pytest.FixtureRequest) -> None:
    if releases.folder(release) is None:
        pytest.skip(releases.advice(release))
    counts = shares(_WORLDS, tuple(SHARES))
    with sides.pair(request.getfixturevalue("zygote"), release) as pair:
        assert misplaced(pair, counts) == []
        for subject, count in counts.items():
            tally = compare(pair, subject, drawn(subject, count, 0), count, 0)
            assert not tally.disagreements, "\n".join(map(str, tally.disagreements))
            assert tally.worlds
