"""A rule about a member that an unknown release took away cannot be judged there, and nothing else is excused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.suite import execute, expect

KNOWN = tables.load("0.5.23")
NEXT = replace(KNOWN, release="0.5.24", members=tuple(m for m in KNOWN.members if m.name != "post_load_model"))


class Platform:
    def init_backend(self) -> None:
        self.post_load_model()  # type: ignore[attr-defined]

    def empty_cache(self) -> None:
        self.own()  # type: ignore[attr-defined]


def asked(member: str, contract: Any = NEXT) -> dict[str, Any]:
    platform = Platform()
    return execute.call(lambda: expect.ask(platform, member), {"platform": platform, "contract": contract})


def test_rule_about_a_member_that_is_gone_is_not_judged() -> None:
    told = {"outcome": "blocked", "message": "SGLang 0.5.24 has no post_load_model, which 0.5.23 has"}
    assert asked("post_load_model") == told


@pytest.mark.parametrize(
    ("member", "contract"),
    [
        ("post_load_model", KNOWN),  # a platform without a member that there is
        ("nothing_of_that_name", NEXT),  # which no release has
        ("init_backend", NEXT),  # the plugin's own call of what is gone
        ("empty_cache", NEXT),
    ],
)
def test_everything_else_is_a_failure(member: str, contract: Any) -> None:
    with pytest.raises(expect.Violation):
        asked(member, contract)
