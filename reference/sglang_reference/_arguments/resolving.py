"""Where decisions about server arguments are written and read while they are resolved, and afterwards.

Up to 0.5.18 a decision is an assignment. From 0.5.19 on it is a declaration beside what the user gave, and the object
keeps what it was given (srt/arg_groups/overrides.py): the last declaration of a field holds, then the user's value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import fields

Declaration = tuple[str, dict[str, Any]]


class View:
    """The arguments as decided so far, to read: what was declared last, else what the object has."""

    __slots__ = ("_arguments",)

    def __init__(self, arguments: Any) -> None:
        object.__setattr__(self, "_arguments", arguments)

    def __getattr__(self, name: str) -> Any:
        arguments = object.__getattribute__(self, "_arguments")
        for _, declared in reversed(_declarations(arguments)):
            if name in declared:
                return declared[name]
        return getattr(arguments, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} assigned to a view of the server arguments, which only reads")


class Recorder:
    """A view to write to: it keeps aside what is assigned, and reads that first."""

    __slots__ = ("_view", "_written")

    def __init__(self, arguments: Any) -> None:
        object.__setattr__(self, "_view", View(arguments))
        object.__setattr__(self, "_written", {})

    def __getattr__(self, name: str) -> Any:
        written = object.__getattribute__(self, "_written")
        return written[name] if name in written else getattr(object.__getattribute__(self, "_view"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__getattribute__(self, "_written")[name] = value


def settled(arguments: Any) -> Any:
    """What holds of the arguments now, whichever release: a view of them, or the object itself where it tells."""
    return View(arguments) if getattr(arguments, "_resolved_overrides", None) is not None else arguments


def declare(arguments: Any, source: str, **decided: Any) -> None:
    """Keep what ``source`` has decided, in the release's manner. Raises AttributeError for what is no field."""
    if fields.RESOLVED_WHEN_MADE:
        for name, value in decided.items():
            setattr(arguments, name, value)
        return
    unknown = sorted(decided.keys() - fields.NAMES)
    if unknown:
        raise AttributeError(f"{source}: {unknown} are no fields of ServerArgs")
    if getattr(arguments, "_resolved_overrides", None) is None:
        arguments._resolved_overrides = []
    arguments._resolved_overrides.append((source, decided))


def record_foreign(arguments: Any, source: str, resolve: Callable[[Any], Any]) -> Any:
    """Have a plugin's function decide, and keep what it assigned as declared by ``source``; returns its answer.

    It is handed the object itself up to 0.5.19, and a view that records from 0.5.20 on: there, what it assigns is
    kept where it is a field, and forgotten where it is none.
    """
    if fields.RESOLVED_WHEN_MADE:
        return resolve(arguments)
    if not fields.RECORDS_WRITES:
        before = {name: getattr(arguments, name) for name in fields.NAMES}
        answer = resolve(arguments)
        written = {name: getattr(arguments, name) for name in fields.NAMES if getattr(arguments, name) != before[name]}
    else:
        recorder = Recorder(arguments)
        answer = resolve(recorder)
        every = object.__getattribute__(recorder, "_written")
        written = {name: value for name, value in every.items() if name in fields.NAMES}
    if written:
        declare(arguments, source, **written)
    return answer


def attention_backends_of(arguments: Any) -> tuple[str, str]:
    """The attention backends of prefill and of decode, as decided."""
    values = settled(arguments)
    return (
        values.prefill_attention_backend or values.attention_backend,
        values.decode_attention_backend or values.attention_backend,
    )


def _declarations(arguments: Any) -> list[Declaration]:
    return getattr(arguments, "_resolved_overrides", None) or []
