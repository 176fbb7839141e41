"""How SGLang reads its variables: fields that are read, set, cleared and overridden, whatever the text.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .plain import read
from .witness import witness


@dataclass(frozen=True)
class World:
    """The environment before, and steps: one of :data:`STEPS`, a variable's name, and arguments."""

    environment: dict[str, str] = field(default_factory=dict)
    steps: tuple[tuple[str, str, tuple[Any, ...]], ...] = ()


def enact(data: Any) -> Any:
    """Take the steps; tell of each what came of it and what the variable then is."""
    world = read(World, data)
    os.environ.update(world.environment)
    with witness() as seen:
        story = []
        for step, name, arguments in world.steps:
            told = seen.step(f"{step} {name}", functools.partial(STEPS[step], name, *arguments))
            story.append({**told, "variable": os.environ.get(name)})
        for name in {name for _, name, _ in world.steps}:
            os.environ.pop(name, None)
            seen.step("clear", functools.partial(_clear, name))
        return story


def _envs() -> Any:
    return importlib.import_module("sglang.srt.environ").envs


def _clear(name: str) -> Any:
    return getattr(_envs(), name).clear()


def _override(name: str, value: Any) -> Any:
    before = os.environ.get(name)
    with getattr(_envs(), name).override(value):
        inside = getattr(_envs(), name).get()
    return [inside, os.environ.get(name) == before]


def _nested(name: str, value: Any, other: Any) -> Any:
    with getattr(_envs(), name).override(value):
        inner = _override(name, other)
        return [inner, getattr(_envs(), name).get()]


STEPS: dict[str, Callable[..., Any]] = {
    "get": lambda name: getattr(_envs(), name).get(),
    "is_set": lambda name: getattr(_envs(), name).is_set(),
    "set": lambda name, value: getattr(_envs(), name).set(value),
    "clear": _clear,
    "truth": lambda name: bool(getattr(_envs(), name)),
    "length": lambda name: len(getattr(_envs(), name)),
    "override": _override,
    "nested": _nested,
    "name": lambda name: [getattr(_envs(), name).name, getattr(_envs(), name).default],
}
"""What can be done with a variable's field."""
