"""How a check is declared: which requirements it decides, and where its body runs.

A check is an ordinary function::

    @requirement("MEM-002")
    @in_probe
    def test_free_memory_never_exceeds_total(platform): ...

Its parameters are filled by name (:mod:`.execute` for probes, :mod:`.member` for ranks, :mod:`..session` for the
controller), less those that hypothesis draws.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

Place = Literal["controller", "host", "platform", "ranks"]
Function = TypeVar("Function", bound=Callable[..., Any])

ATTRIBUTE = "__conformance_check__"


@dataclass(frozen=True)
class Check:
    """A declared check. ``place``: the controller, which sees plain data only; a probe in which the host is imported
    and nothing of the vendor's; a probe in which the platform under test is resolved; or every rank of a group.
    ``spawns``: it starts a fresh interpreter, and gets the time for that besides. ``sizes`` are those of its groups,
    ``joined`` says whether the host's groups are made beforehand, ``watched`` whether its collective calls are, and
    ``worth`` how many usual examples one of its own takes as long as.
    """

    module: str
    name: str
    place: Place
    requirements: tuple[str, ...] = ()
    spawns: bool = False
    sizes: tuple[int, ...] = ()
    joined: bool = False
    watched: bool = True
    worth: int = 1
    line: int = 0

    @property
    def area(self) -> str:
        """The suite's module it stands in."""
        return self.module.rpartition(".")[2]

    @property
    def id(self) -> str:
        """Its node id, as pytest prints it."""
        return f"{self.module.replace('.', '/')}.py::{self.name}"


def requirement(*ids: str) -> Callable[[Function], Function]:
    """Name the requirements that a check decides; stands above the decorator that says where it runs."""

    def mark(function: Function) -> Function:
        check: Check = getattr(function, ATTRIBUTE)
        setattr(function, ATTRIBUTE, replace(check, requirements=ids))
        return function

    return mark


def spawns(function: Function) -> Function:
    """Say that the body starts a fresh interpreter (:func:`.isolate.spawned`); stands above the place, too."""
    setattr(function, ATTRIBUTE, replace(getattr(function, ATTRIBUTE), spawns=True))
    return function


def in_controller(function: Function) -> Function:
    """Run the body in the pytest process: it is given plain data and runs nothing of the vendor's."""
    return _placed(function, "controller")


def in_host(function: Function) -> Function:
    """Run the body in a probe that has entered the host and imported nothing of the vendor's."""
    return _placed(function, "host")


def in_probe(function: Function) -> Function:
    """Run the body in a probe in which the host has loaded the plugins and resolved the platform under test."""
    return _placed(function, "platform")


def on_ranks(*sizes: int, joined: bool = True, watched: bool = True, worth: int = 1) -> Callable[[Function], Function]:
    """Run the body on every rank of a group, for each of these sizes; it is given its ``member`` of the group.

    ``joined``: the ranks have made the host's groups, with tensor parallelism over all of them. A property is drawn in
    the controller, for all ranks alike, so what it draws is plain data: numbers, texts, lists, dicts.

    ``watched``: before each collective call the ranks meet on the board, so that one that calls another, or none, is
    told at once. That synchronises them: a check that looks for races, or for what a barrier does, goes without.

    ``worth``: a property whose examples take long is given one for so many of the usual ones.
    """

    def place(function: Function) -> Function:
        _placed(function, "ranks")
        placed = replace(getattr(function, ATTRIBUTE), sizes=sizes, joined=joined, watched=watched, worth=worth)
        setattr(function, ATTRIBUTE, placed)
        return function

    return place


def _placed(function: Function, place: Place) -> Function:
    line = inspect.unwrap(function).__code__.co_firstlineno
    setattr(function, ATTRIBUTE, Check(function.__module__, function.__name__, place, line=line))
    return function


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters to fill: those that hypothesis does not draw."""
    return tuple(inspect.signature(function).parameters)
