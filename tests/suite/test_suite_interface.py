from __future__ import annotations

from itertools import chain
from typing import get_args

from sglang_conformance.radar.finding import Kind
from sglang_conformance.suite import interface


def test_each_kind_of_finding_is_the_matter_of_some_requirement_and_of_one_table() -> None:
    tables = [interface.USES, interface.HOOKS, interface.OVERRIDES, interface.FACTORIES]
    tables += [interface.UNREAD, interface.GOING, interface.LEFT]
    assert sorted(chain(*tables)) == sorted(get_args(Kind))
