"""How a plugin comes to life, step by step, in one probe: the record that the controller's checks read.

The host swallows most of what goes wrong here (SGLang 0.5.23, srt/plugins/__init__.py: it logs and carries on), so the
steps are walked one at a time, each with what it returned or raised and what it did to its process.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..probes.observe import changes, observe
from ..probes.result import Failure, Result
from ..probes.server import Probe, describe
from ..subject import EntryPoint, Subject
from .enter import load_device_backends

STEPS = ("import", "activate", "again", "class", "construct", "hooks")


@dataclass(frozen=True)
class Step:
    """One step: ``value`` what it came to (plain data), ``failure`` how it failed, ``changes`` what it did."""

    name: str
    value: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Story:
    """The steps that were walked, up to the first that failed, and what the plugin printed meanwhile.

    ``obstacle`` says why it could not be told at all; empty where it could.
    """

    steps: tuple[Step, ...] = ()
    output: str = ""
    orphans: int = 0
    obstacle: str = ""

    def step(self, name: str) -> Step | None:
        """The step of that name; None where the story ended before it."""
        return next((step for step in self.steps if step.name == name), None)

    @property
    def has_instance(self) -> bool:
        """Whether it came as far as an instance of the platform; hooks that fail come after that."""
        step = self.step("construct")
        return step is not None and step.failure is None

    @property
    def failed(self) -> Step | None:
        """The step at which it ended early, if it did."""
        return next((step for step in self.steps if step.failure), None)


def tell(probe: Probe, subject: Mapping[str, Any]) -> None:
    """The job: walk the steps, sending each one's record before the next begins."""
    walk = _Walk(Subject.from_json(subject))
    load_device_backends()
    before = observe()
    for name in STEPS:
        probe.progress(json.dumps({"begins": name}))
        started = time.monotonic()
        value, failure = {}, None
        try:
            value = getattr(walk, f"step_{name}")()
        except BaseException as error:
            failure = describe(error)
        seconds = time.monotonic() - started
        after = observe()
        what = changes(before, after).to_json()
        before = after
        record = {"name": name, "value": value, "failure": failure, "changes": what, "seconds": seconds}
        probe.progress(json.dumps(record, default=repr))
        if failure is not None and name != "hooks":
            return


def read(result: Result) -> Story:
    """The story that a probe told, also where it hung, exited or was killed before the end."""
    steps, begun = [], ""
    for text in result.progress:
        record = json.loads(text)
        if "begins" in record:
            begun = record["begins"]
            continue
        raised = record["failure"]
        steps.append(Step(**{**record, "failure": Failure.raised(raised) if raised else None}))
        begun = ""
    if result.failure is not None and (begun or not steps):
        steps.append(Step(begun or STEPS[0], failure=result.failure, seconds=result.seconds))
    return Story(tuple(steps), result.output, result.orphans)


class _Walk:
    """The steps' bodies; each leaves what the next needs."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._activate: Callable[[], Any] | None = None
        self._answer: Any = None
        self._class: Any = None

    def step_import(self) -> dict[str, Any]:
        point = self._subject.entry_point
        if point is None:
            raise LookupError("no entry point of that name")
        self._activate = load(point)
        return {"callable": callable(self._activate), **_place(self._activate)}

    def step_activate(self) -> dict[str, Any]:
        self._answer = self._activate()  # type: ignore[misc]
        return {
            "answer": _plain(self._answer),
            "type": type(self._answer).__name__,
            "is_text": isinstance(self._answer, str),
            **_place(self._activate),
        }

    def step_again(self) -> dict[str, Any]:
        again = self._activate()  # type: ignore[misc]
        return {"answer": _plain(again), "type": type(again).__name__, "same": again == self._answer}

    def step_class(self) -> dict[str, Any]:
        from sglang.srt.platforms.interface import SRTPlatform

        if not isinstance(self._answer, str):
            raise TypeError(f"activate() returned {self._answer!r}, not the path of a class")
        self._class = _named(self._answer)
        is_class = isinstance(self._class, type)
        return {
            "is_class": is_class,
            "is_platform": is_class and issubclass(self._class, SRTPlatform),
            "type": type(self._class).__name__,
            "bases": [f"{c.__module__}.{c.__qualname__}" for c in self._class.__mro__] if is_class else [],
            **_place(self._class),
        }

    def step_construct(self) -> dict[str, Any]:
        return {"repr": repr(self._class()), **_place(self._class)}

    def step_hooks(self) -> dict[str, Any]:
        from sglang.srt.plugins.hook_registry import HookRegistry

        plugins = []
        for point in self._subject.hook_points:
            raised = None
            try:
                load(point)()
            except BaseException as error:
                raised = describe(error)
            plugins.append({"name": point.name, "value": point.value, "failure": raised})
        registered = [
            {"target": target, "type": entry[0].name, **_place(entry[1])}
            for target, entries in HookRegistry._hooks.items()
            for entry in entries
        ]
        return {"plugins": plugins, "registered": registered}


def load(point: EntryPoint) -> Any:
    """Import what an entry point names, as ``importlib.metadata`` does."""
    return importlib.metadata.EntryPoint(point.name, point.value, point.group).load()


def _named(path: str) -> Any:
    """What a path names, as SGLang resolves it, with the cause told where nothing is there.

    ``pkgutil.resolve_name`` takes a module that fails to import for an attribute that its package lacks.
    """
    try:
        return pkgutil.resolve_name(path)
    except AttributeError as error:
        names = path.replace(":", ".").split(".")
        owner, depth = _imported(names)
        for name in names[depth:]:
            if not hasattr(owner, name):
                inside = [module.name for module in pkgutil.iter_modules(getattr(owner, "__path__", ()))]
                near = difflib.get_close_matches(name, [*dir(owner), *inside], 1)
                question = f"; did you mean {near[0]}?" if near else ""
                called = getattr(owner, "__name__", type(owner).__name__)
                raise AttributeError(f"{called} has no attribute {name!r}{question}") from error
            owner = getattr(owner, name)
        raise


def _imported(names: Sequence[str]) -> tuple[Any, int]:
    """The innermost module that the names lead to, and how many of them; raises what one raises when it is imported."""
    module = importlib.import_module(names[0])
    for depth in range(1, len(names)):
        name = ".".join(names[: depth + 1])
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            return module, depth
    return module, len(names)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value if value is None else repr(value)


def _place(thing: Any) -> dict[str, str]:
    """Where a class or function stands: ``file:line``, or nothing for what has no source."""
    try:
        target = inspect.unwrap(thing) if callable(thing) else thing
        file = inspect.getsourcefile(target)
        line = inspect.getsourcelines(target)[1]
    except Exception:  # no source, or an object that stands in for another and answers in ways of its own
        return {"where": ""}
    return {"where": f"{file}:{line}"}
