"""What many certifications came to: a line as each ends, a table at the end, and the same as plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from ..requirements.model import PROFILES
from .certifying import Result

WIDTH = 100

_CELLS = {"conformant": "yes", "not-conformant": "NO", "incomplete": "part"}
_HEAD = ("release", "host", *PROFILES, "failed", "warned", "time")


def line(result: Result) -> str:
    """One release, as it ends."""
    release = f"{result.place.release:<13} {result.place.host:<10}"
    if result.ended in ("absent", "broken"):
        word = "not there" if result.ended == "absent" else "NO VERDICT"
        return f"{release} {word}: {result.said}"
    profiles: dict[str, list[str]] = {}
    for profile, verdict in result.verdicts.items():
        profiles.setdefault(verdict, []).append(profile)
    told = [f"{verdict}: {', '.join(names)}" for verdict, names in profiles.items()]
    told += [f"failed {_listed(result.failed)}"] if result.failed else []
    told += [result.said] if result.said else []
    return f"{release} {'; '.join(told)}; {result.seconds:.0f} s"


def table(results: Sequence[Result]) -> Iterator[str]:
    """All of them, a row each, and what is to be said of those that are not conformant."""
    rows = [_HEAD, *map(_row, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for number, row in enumerate(rows):
        cells = (
            f"{cell:>{width}}" if column >= len(_HEAD) - 3 else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
        if number == 0:
            yield "-" * (sum(widths) + 2 * (len(widths) - 1))
    for result in results:
        yield from _remarks(result)
    absent = [result.place.release for result in results if result.ended == "absent"]
    if absent:
        yield from _wrapped(f"not there: {', '.join(absent)}")
    yield ""
    yield closing(results)


def closing(results: Sequence[Result]) -> str:
    """The last line: for how many releases the platform is conformant."""
    judged = [result for result in results if result.ended != "absent"]
    right = sum(result.ended == "conformant" for result in judged)
    absent = len(results) - len(judged)
    without = f"; {absent} without such a platform" if absent else ""
    return f"conformant for {right} of {len(judged)} releases{without}"


def to_json(platform: str, results: Sequence[Result]) -> dict[str, Any]:
    """The results as plain data."""
    return {
        "platform": platform,
        "releases": [
            {
                "release": result.place.release,
                "host": result.place.host,
                "ended": result.ended,
                "profiles": dict(result.verdicts),
                "failed": list(result.failed),
                "host_defects": list(result.host_defects),
                "warnings": result.warnings,
                "said": result.said,
                "seconds": round(result.seconds, 1),
            }
            for result in results
        ],
    }


def _row(result: Result) -> tuple[str, ...]:
    verdicts = (_CELLS[result.verdicts[name]] if name in result.verdicts else "-" for name in PROFILES)
    return (
        result.place.release,
        result.place.host,
        *verdicts,
        str(len(result.failed)) if result.verdicts else "-",
        str(result.warnings) if result.verdicts else "-",
        f"{result.seconds:.0f} s",
    )


def _remarks(result: Result) -> Iterator[str]:
    told = []
    if result.failed:
        told.append(f"failed {', '.join(result.failed)}")
    if result.host_defects:
        told.append(f"SGLang's own defects {', '.join(result.host_defects)}")
    if result.said and result.ended != "absent":
        told.append(result.said)
    if told:
        yield from _wrapped(f"{result.place.release}: {'; '.join(told)}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
