"""A group's custom all-reduce: the object that SGLang's coordinator really uses, whoever made it, and further ones.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from .. import expect
from ..communicating.communicators import kind
from ..grouping import beside
from ..member import Member

OWNER = "ca_comm"
NAMES = ("disabled", "should_custom_ar", "custom_all_reduce", "capture")
"""What SGLang's core takes from it (0.5.11 and 0.5.23, srt/distributed/parallel_state.py)."""

_MODULES = "sglang.srt.distributed.device_communicators.custom_all_reduce"
_NONE = "the platform's groups have no custom all-reduce that is not disabled"


def of(coordinator: Any) -> Any:
    """A group's engine; None where it has none, or one that is disabled."""
    found = getattr(coordinator, OWNER, None)
    return found if found is not None and not getattr(found, "disabled", True) else None


def group_s(member: Member) -> Any:
    """The engine of the group of all ranks. Declined where there is none to use."""
    found = of(member.coordinator)
    if found is None:
        raise expect.Declined(_NONE)
    return found


def told(coordinator: Any) -> str:
    """What a group has, in words."""
    found = getattr(coordinator, OWNER, None)
    if found is None:
        return "none"
    if not getattr(found, "disabled", True):
        return kind(found)
    why = getattr(found, "why_disabled", "")
    return f"a disabled {kind(found)}{f' ({why})' if why else ''}"


def described(engine: Any) -> str:
    """The class of an engine, and where a plugin has hooked the host's modules of it."""
    registry = importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry
    hooks = sorted(each.rpartition(".")[2] for each in registry._patched if each.startswith(_MODULES))
    return "; ".join(filter(None, (kind(engine), f"by a hook at {', '.join(hooks)}" if hooks else "")))


def where(engine: Any, method: str) -> str:
    """The vendor's line that defines a method; empty where it is SGLang's own."""
    return expect.place_of(engine, method)


def accepts(engine: Any, tensor: Any, words: str = "a tensor") -> bool:
    """Whether it says that it reduces a tensor."""
    call, place = f"{OWNER}.should_custom_ar({words})", where(engine, "should_custom_ar")
    return bool(expect.attempt(call, partial(engine.should_custom_ar, tensor), where=place).value)


def maker(member: Member) -> Callable[..., Any]:
    """What SGLang makes a group's engine by: of a group for host tensors, and for the group's device or another.

    Declined where the group's engine is not what that gives: a plugin has given the group an object in another way.
    """
    found = group_s(member)
    module = importlib.import_module(_MODULES)
    device = member.coordinator.device
    wanted = {"group": member.coordinator.cpu_group, "device": device}
    try:
        dispatch = module.dispatch_custom_allreduce
        taken = inspect.signature(dispatch).parameters
        made = dispatch(**(wanted if taken else {}))
    except Exception as error:
        expect.pass_on_uncovered(error)
        raise expect.Declined(f"the groups' {kind(found)} is not made by what SGLang's choice gives") from None

    def make(group: Any, other: Any = device, **further: Any) -> Any:
        return made(group=group, device=other, **further)

    make.__wrapped__ = made  # type: ignore[attr-defined]
    return make


@contextlib.contextmanager
def in_its_place(coordinator: Any, engine: Any) -> Iterator[None]:
    """For a while, a group has another engine, or none."""
    before = getattr(coordinator, OWNER)
    setattr(coordinator, OWNER, engine)
    try:
        yield
    finally:
        setattr(coordinator, OWNER, before)


@contextlib.contextmanager
def disabled(engine: Any) -> Iterator[None]:
    """A scope in which it is disabled, as SGLang's graph runners may have it."""
    before = engine.disabled
    try:
        engine.disabled = True
    except AttributeError as error:
        expect.fail(expected="to be set", seen=str(error), call=f"{OWNER}.disabled = True")
    try:
        yield
    finally:
        engine.disabled = before


@contextlib.contextmanager
def further(member: Member, lists: Mapping[str, beside.Lists]) -> Iterator[dict[str, Any]]:
    """The engines of groups made beside the host's own; None for those that have none enabled."""
    with beside.added(member, lists) as made:
        yield {name: of(coordinator) for name, coordinator in made.items()}


def require_closing(engine: Any) -> None:
    """Declined where it cannot be closed."""
    if not callable(getattr(engine, "close", None)):
        raise expect.Declined("it cannot be closed")


def close(engine: Any) -> None:
    """Close it, where it can be closed: SGLang's own are, when they are collected at the latest."""
    if callable(getattr(engine, "close", None)):
        expect.attempt(f"{OWNER}.close()", engine.close)
