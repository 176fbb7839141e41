"""The table of a benchmark, for a terminal of 100 columns: a heading, a block for each size, and what is to be said."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from .layout import WIDTH, Columns, digits, sized
from .model import Figures, Measured, Taken, figures
from .record import Setting

_COLUMNS = Columns((9, 10, 10, 18, 10, 8, 8, 10, 9, 8), left=(2, 3))
_NAME = 16
_HEAD = (
    ("", "", "", "", "", "algbw", "busbw", "times as", "times as", ""),
    ("", "", "", "", "time", "", "", "fast as", "long as", ""),
    ("size", "count", "dtype", "engine", "µs", "GB/s", "GB/s", "backend", "a copy", "#wrong"),
)


def heading(setting: Setting) -> Iterator[str]:
    """What was measured, where and how."""
    yield f"all-reduce on {setting.platform}, by sglang-conformance bench"
    facts = {
        "platform": setting.platform_told,
        "host": setting.host_told,
        "backend": setting.backend,
        "ranks": setting.ranks_told,
        "machine": setting.machine_told,
        "times": setting.times_told,
    }
    for label, text in facts.items():
        lines = textwrap.wrap(text, WIDTH - 12) or [""]
        yield f"  {label:<9} {lines[0]}"
        yield from (f"  {'':<9} {line}" for line in lines[1:])


def columns(ranks: int) -> Iterator[str]:
    """The head of the table of a group."""
    yield ""
    yield f"{ranks} ranks"
    yield from _COLUMNS.head(_HEAD)


def block(measured: Measured) -> Iterator[str]:
    """The lines of one size: what it is stands in the first."""
    case = measured.case
    names: Sequence[str] = (sized(case.bytes), str(case.count), case.dtype)
    for taken in measured.taken:
        yield _COLUMNS.row((*names, named(taken), *_figures(figures(measured, taken)), _counted(taken.wrong)))
        names = ("", "", "")


def closing(measured: Sequence[Measured]) -> Iterator[str]:
    """Which engines were not there and why, and whether every value was right."""
    for engine, why, cases in _absent(measured):
        everywhere = len(cases) == len(measured)
        where = "" if everywhere else f" for {_listed(sized(each.case.bytes) for each in cases)}"
        yield from textwrap.wrap(f"{engine}: not measured{where}: {why}", WIDTH, subsequent_indent="  ")
    wrong = sum(each.wrong for each in measured)
    if not wrong:
        yield "every value is right, those of the warm-up too"
        return
    engines = _listed(taken.engine for each in measured for taken in each.taken if taken.wrong)
    text = f"WRONG VALUES: {wrong} elements, by {engines}; the times of what computes wrong values mean nothing"
    yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def named(taken: Taken) -> str:
    """The engine's name; for the group, with that of the engine which it chose, as far as there is room."""
    name = f"{taken.engine} ({taken.by})" if taken.by else taken.engine
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _counted(wrong: int) -> str:
    return str(wrong) if wrong < 1_000_000 else f"{wrong:.1e}"


def _figures(found: Figures) -> tuple[str, ...]:
    times = "" if found.vs_backend is None else f"{digits(found.vs_backend, 3)}x"
    length = "" if found.vs_copy is None else f"{digits(found.vs_copy, 3)}x"
    bus = "" if found.bus is None else digits(found.bus, 3)
    return digits(found.microseconds, 4), digits(found.algorithm, 3), bus, times, length


def _absent(measured: Sequence[Measured]) -> list[tuple[str, str, list[Measured]]]:
    found: dict[tuple[str, str], list[Measured]] = {}
    for each in measured:
        for engine, why in each.absent.items():
            found.setdefault((engine, why), []).append(each)
    return [(engine, why, cases) for (engine, why), cases in found.items()]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
