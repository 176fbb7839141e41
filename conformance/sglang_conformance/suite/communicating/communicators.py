"""The communicators of a group: that which SGLang's coordinator really uses, whoever made it, and further ones.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from ...hosts import groups
from .. import expect
from ..grouping import beside
from ..member import Member

OWNER = "pynccl_comm"
_MODULE = "sglang.srt.distributed.device_communicators.pynccl"


def of(coordinator: Any) -> Any:
    """A group's communicator; None where it has none, or one that is not available."""
    found = getattr(coordinator, OWNER, None)
    return found if found is not None and getattr(found, "available", False) else None


def group_s(member: Member) -> Any:
    """The communicator of the group of all ranks. Declined where there is none to use."""
    found = of(member.coordinator)
    if found is None:
        raise expect.Declined("the platform's groups have no PyNCCL communicator that is available")
    return found


def why_none(coordinator: Any) -> str:
    """What a group has in place of a communicator that is available."""
    found = getattr(coordinator, OWNER, None)
    if found is None:
        return "none"
    why = getattr(found, "why_unavailable", "")
    return f"a {kind(found)} that is not available{f': {why}' if why else ''}"


def kind(communicator: Any) -> str:
    """The class of a communicator, by its full name."""
    found = type(communicator)
    return f"{found.__module__}.{found.__qualname__}"


def described(communicator: Any) -> str:
    """The class of a communicator, what of it a plugin has hooked, and the version of its library."""
    registry = importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry
    hooks = sorted(target.removeprefix(f"{_MODULE}.") for target in registry._patched if target.startswith(_MODULE))
    version = getattr(communicator, "nccl_version", None)
    told = [f"hooked at {', '.join(hooks)}" if hooks else "", f"library version {version}" if version else ""]
    return "; ".join(filter(None, (kind(communicator), *told)))


def where(communicator: Any, method: str) -> str:
    """The vendor's line that defines a method; empty where it is SGLang's own."""
    return expect.place_of(communicator, method)


def the_class() -> Any:
    """The class by which SGLang makes communicators, with the plugin's hooks applied."""
    return importlib.import_module(_MODULE).PyNcclCommunicator


@contextlib.contextmanager
def answered_by_sglang(member: Member, host: str, method: str, fault: str) -> Iterator[None]:
    """A scope in which what is found wrong is the host's ``fault``, where the method that answers is SGLang's own.

    It is the plugin's by a hook on it, on the class or on the group; SGLang's own platforms answer for SGLang.
    """
    if not is_sglangs_own(host, method):
        yield
        return
    wrong = None
    try:
        yield
    except expect.Violation as violation:
        wrong = violation
    if any(member.side.to_all(wrong is not None)):
        raise expect.HostDefect(fault, wrong)


def is_sglangs_own(host: str, method: str) -> bool:
    """Whether a method of the group's communicator is that of the real SGLang, and the platform is another's."""
    registry = importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry
    target, found = f"{_MODULE}.PyNcclCommunicator", getattr(groups.group("tp"), OWNER, None)
    untouched = {target, f"{target}.{method}"}.isdisjoint(registry._patched)
    platform = importlib.import_module("sglang.srt.platforms").current_platform
    return host == "installed" and untouched and type(found).__module__ == _MODULE and platform.is_out_of_tree()


@contextlib.contextmanager
def enabled(communicator: Any) -> Iterator[Any]:
    """A scope in which the communicator is enabled, as SGLang has it in a graph capture."""
    scope = expect.attempt("change_state(enable=True)", lambda: communicator.change_state(enable=True)).value
    with scope:
        yield communicator


@contextlib.contextmanager
def further(member: Member, lists: Mapping[str, beside.Lists]) -> Iterator[dict[str, Any]]:
    """The communicators of groups made beside the host's own; None for those that have none available."""
    with beside.added(member, lists) as made:
        yield {name: of(coordinator) for name, coordinator in made.items()}


def offers(communicator: Any, name: str) -> bool:
    """Whether it has a method at all: all_to_all_single came with 0.5.17."""
    return callable(getattr(communicator, name, None))
