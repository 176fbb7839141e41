"""What of SGLang came, went and was renamed between releases, as data, and functions that follow it.

A function of the reference is written once, with every parameter that any release gives it; :func:`released` gives it
the parameters of the table's release, so that callers and hooks written for that release meet its signature.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

from ._contract import since

F = TypeVar("F", bound=Callable[..., Any])


class Lifetime(NamedTuple):
    """The first release that has a name, and the first that has it no longer; empty where that is open."""

    first: str = ""
    gone: str = ""

    def holds(self) -> bool:
        """Whether the table's release has the name."""
        return (not self.first or since(self.first)) and not (self.gone and since(self.gone))


class Renamed(NamedTuple):
    """An earlier name, and the release that gave it up."""

    before: str
    until: str


@dataclass(frozen=True)
class Parameters:
    """How the parameters of one function differ between releases: by name, their lifetimes and earlier names.

    ``defaulted`` names the release that gave a parameter its default: before, every call must give it; ``required``
    that from which on every call must, ``keyword_only`` that from which on it is given by name only.
    """

    lifetimes: Mapping[str, Lifetime] = field(default_factory=dict)
    renamed: Mapping[str, Renamed] = field(default_factory=dict)
    defaulted: Mapping[str, str] = field(default_factory=dict)
    keyword_only: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)

    def absent(self) -> set[str]:
        """The parameters that the table's release does not have."""
        return absent(self.lifetimes)

    def named(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments under the names that the table's release has for them, without those that it does not have."""
        names, missing = self.earlier_names(), self.absent()
        return {names.get(name, name): value for name, value in arguments.items() if name not in missing}

    def earlier_names(self) -> dict[str, str]:
        """The names that still hold in the table's release, by their later ones."""
        return {name: change.before for name, change in self.renamed.items() if not since(change.until)}

    def needed(self) -> set[str]:
        """The parameters that the table's release has no default for."""
        yet = {name for name, release in self.defaulted.items() if not since(release)}
        return yet | {name for name, release in self.required.items() if since(release)}


def released(parameters: Parameters) -> Callable[[F], F]:
    """Decorator that gives a function the parameters of the table's release.

    A parameter that the release lacks has its default inside, or None. Raises TypeError, as Python does, for a call
    that the release's signature does not allow.
    """

    def follow(function: F) -> F:
        missing, names, needed = parameters.absent(), parameters.earlier_names(), parameters.needed()
        named = {name for name, release in parameters.keyword_only.items() if since(release)}
        if not missing and not names and not needed and not named:
            return function
        whole = inspect.signature(function)
        later = {before: name for name, before in names.items()}
        told = whole.replace(
            parameters=[
                parameter.replace(
                    name=names.get(name, name),
                    default=inspect.Parameter.empty if name in needed else parameter.default,
                    kind=inspect.Parameter.KEYWORD_ONLY if name in named else parameter.kind,
                )
                for name, parameter in whole.parameters.items()
                if name not in missing
            ]
        )
        kinds = {name: parameter.kind for name, parameter in whole.parameters.items()}
        rest = next((name for name, kind in kinds.items() if kind is inspect.Parameter.VAR_KEYWORD), None)
        unset = {name: None for name in missing - {rest} if whole.parameters[name].default is inspect.Parameter.empty}

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = told.bind(*args, **kwargs).arguments
            more = given.pop(rest, {}) if rest else {}
            return function(**unset, **{later.get(name, name): value for name, value in given.items()}, **more)

        vars(call)["__signature__"] = told
        return cast(F, call)

    return follow


def absent(lifetimes: Mapping[str, Lifetime]) -> set[str]:
    """The names that the table's release does not have."""
    return {name for name, lifetime in lifetimes.items() if not lifetime.holds()}


def withdraw(namespace: dict[str, Any], lifetimes: Mapping[str, Lifetime]) -> frozenset[str]:
    """Take the names that the table's release does not have out of a module's namespace; returns them.

    A module keeps them as ``_ABSENT``: what asks for one of them meets an ordinary AttributeError.
    """
    missing = frozenset(absent(lifetimes))
    for name in missing:
        namespace.pop(name, None)
        if name in namespace.get("__all__", ()):
            namespace["__all__"].remove(name)
    return missing
