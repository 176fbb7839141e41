"""Drawn worlds of hooks: few targets, so that hooks meet on them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..hooking import SHAPES, TYPES, WAYS, Call, Hook, World
from ..library import ODD_TARGETS, TARGETS

_TARGET = st.one_of(st.sampled_from(TARGETS), st.sampled_from(TARGETS), st.sampled_from(ODD_TARGETS))
_TYPE = st.one_of(st.sampled_from(TYPES), st.sampled_from(TYPES), st.sampled_from((*TYPES, "after", "nonsense")))
_DOES = st.sampled_from(
    ("changed", "changed", "changed", "none", "none", "odd", "empty", "twice", "raises ValueError", "raises SystemExit")
)
_SHAPE = st.one_of(st.just("function"), st.just("function"), st.sampled_from(SHAPES))


@st.composite
def _worlds(draw: Any) -> World:
    targets = draw(st.lists(_TARGET, min_size=1, max_size=3, unique=True))
    target = st.sampled_from(targets)
    hook = st.tuples(st.just("hook"), st.builds(Hook, target, _TYPE, _DOES, _SHAPE, st.sampled_from(WAYS)))
    path = st.one_of(target, target, st.sampled_from(TARGETS))
    arguments = st.sampled_from(((), (1,), (1, 2)))
    call = st.tuples(st.just("call"), st.builds(Call, path, arguments, st.one_of(st.none(), st.just({"a": 3}))))
    other = st.tuples(st.sampled_from(("apply", "apply", "apply", "survey", "reset")), st.none())
    first = draw(st.lists(hook, min_size=1, max_size=4))
    rest = draw(st.lists(st.one_of(call, call, other, hook), max_size=5))
    return World((*first, ("apply", None), *rest))


WORLDS = _worlds()
"""Worlds of :mod:`parity.hooking`."""
