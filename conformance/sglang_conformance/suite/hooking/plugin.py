"""The vendor's own hooks: what its plugin registers, and what its targets are in the host.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...hosts.story import load
from ...subject import EntryPoint, Subject
from .. import expect
from ..aids.lacking import raised_in_sglang


class Missing(LookupError):
    """A hook's target is not in this SGLang."""


@dataclass(frozen=True)
class Registration:
    """One hook of the vendor's, as SGLang's registry holds it; ``kind`` is the name of its HookType."""

    target: str
    kind: str
    hook: Any

    def __str__(self) -> str:
        name = getattr(self.hook, "__qualname__", None) or repr(self.hook)
        return f"{self.kind} {name} on {self.target}"

    @property
    def where(self) -> str:
        """``file:line`` of the hook."""
        return expect.place(self.hook)


@dataclass(frozen=True)
class Found:
    """A target in the host: its owner, its name there, and the callable or class that a hook is given."""

    owner: Any
    name: str
    original: Any
    takes_self: bool


def need_hook_plugin(subject: Subject) -> None:
    """Raise Declined where the platform's distribution brings no hook plugin."""
    if not subject.hook_points:
        raise expect.Declined(f"it brings no hook plugin: no entry point in the group {subject.groups['plugins']}")


def rehearse(subject: Subject) -> tuple[Registration, ...]:
    """Run the vendor's hook plugins, without applying what they register; their registrations.

    What a plugin raises is a violation. NotCovered passes through, and is raised for one that goes to a module of
    SGLang's which lacks a package here. Raises Declined where there is no hook plugin.
    """
    need_hook_plugin(subject)
    for point in subject.hook_points:
        expect.attempt(f"{point.value}, the hook plugin {point.name}", partial(_run, point))
    return registrations(subject)


def _run(point: EntryPoint) -> None:
    from sglang.srt.plugins.hook_registry import HookSource, _current_plugin_source

    try:
        function = load(point)
        token = _current_plugin_source.set(HookSource(point.name, point.distribution))
        try:
            function()
        finally:
            _current_plugin_source.reset(token)
    except ImportError as error:
        if raised_in_sglang(error):
            raise expect.NotCovered(f"a module of SGLang's does not import here: {error}") from error
        raise


def registrations(subject: Subject) -> tuple[Registration, ...]:
    """What stands in SGLang's registry now that is the vendor's: of its distribution, or of its packages."""
    from sglang.srt.plugins.hook_registry import HookRegistry

    return tuple(
        Registration(target, kind.name, hook)
        for target, hooks in list(HookRegistry._hooks.items())
        for kind, hook, source in hooks
        if _is_of(subject, hook, source)
    )


def _is_of(subject: Subject, hook: Any, source: Any) -> bool:
    # A decorator that runs on import leaves no source: then the hook's own package tells.
    if source is not None and source.dist_name is not None:
        return bool(source.dist_name == subject.distribution)
    packages = {point.value.partition(":")[0].partition(".")[0] for point in (*subject.entry_points, *subject.siblings)}
    home = getattr(hook, "__module__", None) or getattr(getattr(hook, "func", None), "__module__", None) or ""
    return home.partition(".")[0] in packages


def replacements(registered: Sequence[Registration]) -> Mapping[str, type]:
    """The classes that take the place of others, by target."""
    return {r.target: r.hook for r in registered if r.kind == "REPLACE" and isinstance(r.hook, type)}


def locate(target: str, replaced: Mapping[str, type] | None = None) -> Found:
    """The target in the host, with the methods of classes in ``replaced`` taken from what replaces them.

    Raises Missing where this SGLang has no such thing, NotCovered where it cannot be known here.
    """
    path, _, name = target.rpartition(".")
    if not path:
        raise Missing(f"{target!r} is no dotted path; write module.name")
    owner = (replaced or {}).get(path) or resolve(path)
    value = _attribute(owner, name, target)
    own = vars(owner).get(name) if isinstance(owner, type) else None
    raw = getattr(own, "__func__", value) if isinstance(own, (classmethod, staticmethod)) else value
    bound = getattr(raw, "__self__", None) is not None
    takes_self = isinstance(owner, type) and not isinstance(own, staticmethod) and not bound
    return Found(owner, name, raw, takes_self)


def resolve(path: str) -> Any:
    """What a dotted path stands for; raises as :func:`locate` does."""
    parts = path.split(".")
    value: Any = None
    depth = 0
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        try:
            if importlib.util.find_spec(name) is None:
                break
            value = importlib.import_module(name)
        except Exception as error:
            if expect.is_uncovered(error) or _is_no_module(error, name):
                break  # perhaps an attribute; if not, the look-up says whether it is missing or not covered
            raise expect.NotCovered(f"{name} does not import here: {type(error).__name__}: {error}") from error
    else:
        return value
    if value is None:
        raise Missing(f"there is no module {parts[0]}")
    for part in parts[depth - 1 :]:
        value = _attribute(value, part, path)
    return value


def _attribute(owner: Any, name: str, target: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError as error:
        holder = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", repr(owner))
        raise Missing(f"{holder} has no {name!r}") from error
    except ImportError as error:
        raise expect.NotCovered(str(error), name=target) from error


def _is_no_module(error: BaseException, name: str) -> bool:
    """Whether the error only says that what stands before the last dot is no package."""
    return isinstance(error, ModuleNotFoundError) and (error.name is None or error.name == name)


def refusal(registration: Registration, original: Any) -> str:
    """Why such a hook on the target cannot work; empty where it can."""
    if isinstance(original, type) and registration.kind != "REPLACE":
        return "the target is a class, which takes only REPLACE; hook one of its methods"
    return "" if callable(original) else f"the target is a {type(original).__name__}, which cannot be called"


def located(registered: Sequence[Registration]) -> Iterator[tuple[Registration, Found]]:
    """Those registrations whose target is there and takes such a hook, with what was found."""
    replaced = replacements(registered)
    for registration in registered:
        try:
            found = locate(registration.target, replaced)
        except (Missing, expect.NotCovered):
            continue
        if not refusal(registration, chain(found)[-1]):
            yield registration, found


def chain(found: Found) -> tuple[Any, ...]:
    """What stands at a target now, outermost first: each wrapper, and what it wraps."""
    value = found.original
    links = [value]
    while (value := getattr(value, "__wrapped__", None)) is not None and len(links) < 100:
        links.append(value)
    return tuple(links)


def held(link: Any) -> tuple[Any, ...]:
    """What a wrapper's closure holds: the hook that it calls among it."""
    return tuple(closed_over(link).values())


def closed_over(link: Any) -> dict[str, Any]:
    """The same by name, of any function; what has not been given a value yet is left out."""
    names = getattr(getattr(link, "__code__", None), "co_freevars", ())
    cells = getattr(link, "__closure__", None) or ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=False) if _is_filled(cell)}


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def signature(thing: Any) -> inspect.Signature | None:
    """Its signature; None where Python cannot tell."""
    try:
        return inspect.signature(thing)
    except (TypeError, ValueError):
        return None
