"""A benchmark against the record of an earlier one: what became faster or slower by more than the spread of both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import OptionError
from .layout import WIDTH, Columns, digits, sized
from .record import SCHEMA

Record = Mapping[str, Any]

_COLUMNS = Columns((9, 7, 11, 12, 12, 12, 9, 11, 9, 8), left=(2, 3))
_HEAD = (
    ("", "", "", "", "", "", "", "times as fast", "", ""),
    ("", "", "", "", "then", "now", "", "as backend", "", ""),
    ("size", "ranks", "dtype", "engine", "µs", "µs", "change", "then", "now", ""),
)
_SETTINGS = ("host", "platform", "machine", "warmup", "iterations")


def load(path: Path) -> Record:
    """The record in that file; raises OptionError, with one clear line, where it holds none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"--against={path}: {error.strerror or error}; give the file that --json wrote") from error
    except ValueError as error:
        raise OptionError(f"--against={path}: that is no JSON; give the file that --json wrote") from error
    if not _is_record(data):
        raise OptionError(f"--against={path}: that is no record of {SCHEMA}; give the file that --json wrote")
    return dict(data)


def lines(then: Record, now: Record) -> Iterator[str]:
    """What differs in the settings, then every figure that both records have."""
    yield f"against the run of {then['date']}"
    for name, old, new in _differences(then, now):
        yield f"  not alike: {name}: {old} then, {new} now"[:WIDTH]
    before = {_key(each): each for each in then["results"]}
    shared = [(before[_key(each)], each) for each in now["results"] if _key(each) in before]
    if not shared:
        yield "  there is nothing that both have measured"
        return
    yield from _COLUMNS.head(_HEAD)
    for old, new in shared:
        yield _COLUMNS.row(_cells(old, new))


def verdict(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """``faster`` or ``slower`` where half of the iterations of the one lie apart from half of those of the other."""
    (old_low, old_high), (new_low, new_high) = old["quartiles_us"], new["quartiles_us"]
    return "faster" if new_high < old_low else "slower" if new_low > old_high else ""


def _cells(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    change = new["time_us"] / old["time_us"] - 1
    ratios = (each["times_as_fast_as_backend"] for each in (old, new))
    return (
        sized(new["bytes"]),
        str(new["ranks"]),
        new["dtype"],
        new["engine"],
        digits(old["time_us"], 4),
        digits(new["time_us"], 4),
        f"{100 * change:+.0f} %",
        *("" if ratio is None else f"{digits(ratio, 3)}x" for ratio in ratios),
        verdict(old, new),
    )


def _is_record(data: Any) -> bool:
    """Whether all is there that is looked at here."""
    try:
        figures = all({"time_us", "times_as_fast_as_backend"} <= set(each) and _key(each) for each in data["results"])
        spread = all(len(each["quartiles_us"]) == 2 for each in data["results"])
        return data["schema"] == SCHEMA and {"date", *_SETTINGS} <= set(data) and figures and spread
    except (KeyError, TypeError):
        return False


def _key(result: Mapping[str, Any]) -> tuple[Any, ...]:
    return result["ranks"], result["dtype"], result["bytes"], result["engine"]


def _differences(then: Record, now: Record) -> Iterator[tuple[str, Any, Any]]:
    for name in _SETTINGS:
        old, new = then[name], now[name]
        if not isinstance(old, dict):
            old, new = {"": old}, {"": new}
        for part in old:
            if old[part] != new.get(part):
                yield f"{name} {part}".strip(), old[part], new.get(part)
