"""Which checks are dealt out together."""

from __future__ import annotations

import pytest

from sglang_conformance.dealing import Together


def _scope(area: str) -> str:
    scope: str = Together.__new__(Together)._split_scope(f"sglang_conformance/suite/{area}.py::test_something")
    return scope


@pytest.mark.parametrize("area", ["journey", "journey_on_ranks", "journey_graphs", "journey_roles"])
def test_checks_that_share_a_server_go_together(area: str) -> None:
    assert _scope(area) == f"sglang_conformance/suite/{area}.py"


@pytest.mark.parametrize("area", ["journey_pressure", "selection", "collectives"])
def test_others_go_alone(area: str) -> None:
    assert _scope(area).endswith("::test_something")
