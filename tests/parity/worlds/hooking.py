"""Drawn worlds of hooks: few targets, so that hooks meet on them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..hooking import SHAPES, TYPES, WAYS, Call, Hook, World
from ..library import LIBRARY, ODD_TARGETS, TARGETS, USER

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


@st.composite
def _replaced(draw: Any) -> World:
    """A class is replaced, by one name or another that it has, and methods of it are hooked: the order decides."""
    of_class = st.builds(
        Hook, st.sampled_from((f"{LIBRARY}.Base", f"{USER}.Base")), st.just("REPLACE"), _DOES, st.just("subclass")
    )
    of_method = st.builds(Hook, st.sampled_from((f"{LIBRARY}.Base.method", f"{LIBRARY}.Base.make")), _TYPE, _DOES)
    hooks = draw(st.permutations([draw(of_class), draw(of_method), draw(of_method)]))
    calls = [Call(f"{LIBRARY}.Base.make", (1,)), Call(f"{USER}.Base.method", (1, 2)), Call(f"{LIBRARY}.Child.method")]
    return World((*(("hook", hook) for hook in hooks), ("apply", None), *(("call", call) for call in calls)))


WORLDS = st.one_of(_worlds(), _worlds(), _worlds(), _replaced())
"""Worlds of :mod:`parity.hooking`."""
