"""The states of a communicator: enabled and disabled, one within the other; and those that are not available.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from packaging.version import Version

from ...contract.model import Contract
from .. import expect
from ..collecting import tensors
from ..drawing import alike, drawing
from ..grouping import beside
from ..member import Member
from . import communicators

_EXAMPLES, _STEPS = 30, 12


def answers(communicator: Any, member: Member) -> dict[str, Any]:
    """What each method returns while the communicator is disabled."""

    def tensor(rows: int) -> Any:
        return tensors.poisoned((rows,), "float32", member.device)

    size, rows = member.size, [2] * member.size
    given: Mapping[str, tuple[Any, ...]] = {
        "all_reduce": (tensor(2),),
        "outplace_all_reduce": (tensor(2),),
        "all_gather": (tensor(2 * size), tensor(2)),
        "reduce_scatter": (tensor(2), tensor(2 * size)),
        "broadcast": (tensor(2), 0),
        "send": (tensor(2), 0),
        "recv": (tensor(2), 0),
        "all_to_all_single": (tensor(size), tensor(size)),
    }
    said: dict[str, Any] = {}
    with communicator.change_state(enable=False):
        for name, arguments in given.items():
            if communicators.offers(communicator, name):
                call = f"{communicators.OWNER}.{name}, disabled"
                said[name] = expect.attempt(call, partial(getattr(communicator, name), *arguments)).value
        for name in ("all_gather", "reduce_scatter"):
            call = f"{communicators.OWNER}.{name} with sizes, disabled"
            call_it = partial(getattr(communicator, name), *given[name], sizes=rows)
            said[f"{name} with sizes"] = expect.attempt(call, call_it).value
    return said


def run_machine(communicator: Any) -> None:
    """Enter scopes, leave them, also by an exception, in any order that nests; each must hold, and restore what was."""
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

    first = communicator.disabled

    class Scopes(RuleBasedStateMachine):
        """A model: the stack of what ``disabled`` was outside of each scope."""

        def __init__(self) -> None:
            super().__init__()
            self.said: list[str] = []
            self.open: list[tuple[Any, bool]] = []
            self.disabled = first

        @rule(enable=st.sampled_from([True, False, None]))
        def enter(self, enable: bool | None) -> None:
            given = {} if enable is None else {"enable": enable}
            scope = communicator.change_state(**given)
            scope.__enter__()
            self.open.append((scope, self.disabled))
            self.disabled = enable is False
            self.said.append(f"enter change_state({', '.join(f'{k}={v}' for k, v in given.items())})")
            self.judge()

        @precondition(lambda self: self.open)
        @rule()
        def leave(self) -> None:
            scope, self.disabled = self.open.pop()
            scope.__exit__(None, None, None)
            self.said.append("leave")
            self.judge()

        @precondition(lambda self: self.open)
        @rule()
        def leave_by_an_exception(self) -> None:
            scope, self.disabled = self.open.pop()
            error, swallowed = ValueError("of what was in the scope"), False
            with contextlib.suppress(ValueError):
                swallowed = bool(scope.__exit__(ValueError, error, None))
            self.said.append("leave by an exception")
            expect.that(not swallowed, expected="the exception goes on", seen="swallowed", call=self.told())
            self.judge()

        def judge(self) -> None:
            expect.equal(
                communicator.disabled, self.disabled, call=f"{communicators.OWNER}.disabled after {self.told()}"
            )

        def told(self) -> str:
            return ", ".join(self.said)

        def teardown(self) -> None:
            while self.open:
                self.open.pop()[0].__exit__(None, None, None)

    with alike():
        found = drawing(_EXAMPLES)
        run_state_machine_as_test(Scopes, settings=type(found)(found, stateful_step_count=_STEPS))


def of_one_rank(member: Member) -> Any:
    """A communicator over a group of this rank alone, which cannot be available.

    Declined where the group's communicator is not made by the class that SGLang calls.
    """
    require_made_by_the_class(member)
    groups = [beside.on_host([rank]) for rank in range(member.size)]
    mine = groups[member.number]
    made = communicators.the_class()
    return expect.attempt(
        "PyNcclCommunicator of a group of one rank", partial(made, group=mine, device=member.device)
    ).value


def require_made_by_the_class(member: Member) -> None:
    """Declined where a plugin's hook has given the group a communicator of another class than SGLang makes."""
    found, made = communicators.group_s(member), communicators.the_class()
    if not (isinstance(made, type) and isinstance(found, made)):
        raise expect.Declined(f"the groups' {communicators.kind(found)} is not made by calling SGLang's class")


def as_it_is() -> contextlib.AbstractContextManager[None]:
    """A scope that changes nothing."""
    return contextlib.nullcontext()


def require_unavailable(found: Any, call: str, cause: str) -> None:
    """Fail where it could be taken for a communicator that works."""
    if found is None:
        return
    for name, wanted in (("available", False), ("disabled", True)):
        expect.equal(getattr(found, name, None), wanted, call=f"{call}: {name}", cause=cause)


def require_clear_refusal(communicator: Any, tensor: Any) -> None:
    """Fail where one that is not available, enabled by force, neither stays disabled nor says why it cannot go on."""
    wanted, call = "an error that says why, or to stay disabled", f"{communicators.OWNER}.all_reduce, enabled by force"
    try:
        with communicator.change_state(enable=True):
            stays_off = communicator.disabled is True
            answer = communicator.all_reduce(tensor)
    except AttributeError as error:
        seen, cause = f"AttributeError: {error}", "it goes on to what was never made"
        expect.fail(expected=wanted, seen=seen, call=call, cause=cause)
    except Exception:
        return
    seen = "no error, although it says that it is enabled"
    expect.that(stays_off and answer is None, expected=wanted, seen=seen, call=call)


Arguments = tuple[tuple[str, ...], tuple[str, ...]]


def core_calls(contract: Contract) -> Mapping[str, list[Arguments]]:
    """Each method with how the core calls it: names for what it gives by position, and by keyword.

    Facts: SGLang 0.5.11, 0.5.16 and 0.5.23, srt/distributed/parallel_state.py.
    """
    release = Version(contract.release)
    found: dict[str, list[Arguments]] = {
        "all_reduce": [(("tensor",), ())],
        "outplace_all_reduce": [(("tensor",), ())],
        "all_gather": [(("output", "input"), ()), (("output", "input"), ("sizes",))],
        "reduce_scatter": [(("output", "input"), ()), (("output", "input"), ("sizes",))],
        "broadcast": [(("tensor",), ("src",))],
        "send": [(("tensor", "dst"), ())],
        "recv": [(("tensor", "src"), ())],
        "group_start": [((), ())],
        "group_end": [((), ())],
        "change_state": [((), ("enable",)), ((), ())],
    }
    if release >= Version("0.5.17"):
        found["all_to_all_single"] = [(("output", "input"), ())]
    if release < Version("0.5.16"):
        found["cp_all_gather_into_tensor"] = [(("output", "input"), ("stream",))]
    return found


def require_fit(communicator: Any, method: str, given: list[Arguments]) -> None:
    """Fail where a communicator lacks a method, or its method cannot be called so."""
    call, place = f"{communicators.OWNER}.{method}", communicators.where(communicator, method)
    function = getattr(communicator, method, None)
    expect.that(callable(function), expected="a method", seen="none", call=call, where=place)
    for positional, named in given:
        spelt = f"{call}({', '.join((*positional, *(f'{name}=…' for name in named)))})"
        try:
            inspect.signature(function).bind(*positional, **dict.fromkeys(named))  # type: ignore[arg-type]
        except TypeError as error:
            expect.fail(expected="a signature that takes the core's call", seen=str(error), call=spelt, where=place)
