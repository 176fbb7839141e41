"""Drawn worlds of the environment: the variables that the contract names, with right and odd texts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from sglang_conformance.contract import tables

from ..environment import World
from ..releases import RELEASES

# The variables that every compared release has.
_NAMES = sorted(
    set.intersection(
        *({variable["name"] for variable in tables.load(release).to_json()["environment"]} for release in RELEASES)
    )
)
_NAME = st.one_of(st.sampled_from(_NAMES), st.sampled_from(_NAMES), st.just("NOT_A_VARIABLE"))
_TEXT = st.sampled_from(
    ("", "0", "1", "true", "False", "YES", "n", "12", "-3", " 1", "None", "acme,beta", "text", "1.5")
)
_VALUE = st.one_of(_TEXT, st.sampled_from((None, True, False, 0, 7)))


def _step(name: str, *arguments: Any) -> Any:
    return st.tuples(st.just(name), _NAME, st.tuples(*arguments))


_STEP = st.one_of(
    _step("get"),
    _step("get"),
    _step("set", _VALUE),
    _step("clear"),
    _step("is_set"),
    _step("override", _VALUE),
    _step("nested", _VALUE, _VALUE),
    _step("truth"),
    _step("length"),
    _step("name"),
)
WORLDS: Any = st.builds(
    World,
    st.dictionaries(st.sampled_from(_NAMES), _TEXT, max_size=2),
    st.lists(_STEP, min_size=1, max_size=6).map(tuple),
)
"""Worlds of :mod:`parity.environment`."""
