"""Server arguments after the platform applied its defaults, and how a finding speaks of them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .. import expect
from . import graph_settings
from .server_args import Configuration

MEMBER = "apply_server_args_defaults"

REFUSALS = (ValueError, NotImplementedError, RuntimeError, AssertionError)
"""What SGLang's own steps refuse with (0.5.23, srt/arg_groups: hicache_hook, kv_cache_hook, attention_hook)."""


def applied(platform: Any, release: str, chosen: Mapping[str, Any]) -> Configuration | None:
    """The configuration after the platform applied its defaults; None where it raised, which ARG-002 judges."""
    configuration = Configuration(release, platform.device_type, chosen)
    try:
        expect.ask(platform, MEMBER, configuration.handed)
    except expect.Violation:
        return None
    return configuration


def told_while_applied(
    platform: Any, release: str, chosen: Mapping[str, Any]
) -> tuple[Configuration | None, tuple[str, ...]]:
    """The same, and the warnings that the platform gave meanwhile."""
    with _warnings() as texts:
        configuration = applied(platform, release, chosen)
    return configuration, tuple(texts)


def is_refusal(error: BaseException | None) -> bool:
    """Whether an error refuses settings: it is of a type that SGLang's own steps use, and says something."""
    return isinstance(error, REFUSALS) and bool(str(error).strip())


def replaced(configuration: Configuration, chosen: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The user's settings that are others now, by name: (what the user chose, what it is now).

    Graph settings are read where SGLang reads them from then on, in the resolved ones.
    """
    now = configuration.values
    found = {name: (value, now[name]) for name, value in chosen.items() if now[name] != value}
    graphs = now.get("cuda_graph_config")
    for (phase, key), value in graph_settings.chosen_by(chosen).items():
        seen = getattr(getattr(graphs, phase, None), key, value)
        if key == "backend" and seen != value:
            found[f"cuda_graph_config.{phase}.{key}"] = (value, seen)
    return found


def is_told(name: str, pair: tuple[Any, Any], texts: tuple[str, ...]) -> bool:
    """Whether a warning speaks of a setting: by its name, its option or its subject, or by one of the two values."""
    subject = _words(name.replace("cuda_graph_config", "graph").partition(".")[0])
    for prefix in ("enable ", "disable "):
        subject = subject.removeprefix(prefix)
    values = {_words(str(value)) for value in pair if not isinstance(value, bool)} - {"", "none"}
    return any(subject in _words(text) or values & set(_words(text).split()) for text in texts)


def expect_none(
    platform: Any, chosen: Mapping[str, Any], found: Mapping[str, Any], *, expected: str, cause: str
) -> None:
    """Fail where the platform did something to these fields that it should not do, for a user who chose these."""
    expect.that(
        not found,
        expected=expected,
        seen=listed(found),
        call=call_of(chosen),
        where=expect.place_of(platform, MEMBER),
        cause=cause,
    )


def expect_none_replaced(
    platform: Any, chosen: Mapping[str, Any], lost: Mapping[str, tuple[Any, Any]], *, cause: str
) -> None:
    """Fail where there are settings of the user's that are others now, as :func:`replaced` gives them."""
    now = {name: pair[1] for name, pair in lost.items()}
    expected = f"the user's {listed({name: pair[0] for name, pair in lost.items()})}"
    expect_none(platform, chosen, now, expected=expected, cause=cause)


def call_of(chosen: Mapping[str, Any]) -> str:
    """The call as a person would write it."""
    return f"platform.{MEMBER}(ServerArgs({listed(chosen)}))"


def listed(values: Mapping[str, Any]) -> str:
    """Fields and what they hold: ``page_size=64, dtype='auto'``."""
    return ", ".join(f"{name}={expect.show(value, 60)}" for name, value in values.items())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What is logged as a warning or worse, by any logger, and what is warned of by Python's own means."""
    texts: list[str] = []
    make = logging.getLogRecordFactory()

    def noted(*arguments: Any, **keywords: Any) -> logging.LogRecord:
        record = make(*arguments, **keywords)
        if record.levelno >= logging.WARNING:
            texts.append(record.getMessage())
        return record

    logging.setLogRecordFactory(noted)
    try:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            yield texts
        texts.extend(str(warning.message) for warning in given)
    finally:
        logging.setLogRecordFactory(make)


def _words(text: str) -> str:
    return " ".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())
