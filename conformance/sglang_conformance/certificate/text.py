"""What a person reads: one failure in full, line by line. Pure text, without colours.

A :class:`Line` carries a role, so that whoever prints it may colour it. Prose and values are wrapped to the
width; what is there to be copied (a link, a command, a path) is never cut.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Literal

from ..requirements.model import Requirement
from .model import Finding, Outcome

Role = Literal["plain", "heading", "good", "bad", "warning", "quiet", "copy"]

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "]"
)
_LABEL = 12
_INDENT = 2
_ROWS = 12


@dataclass(frozen=True)
class Line:
    """One line of text and what it is. Lines of the role ``copy`` may be wider than asked."""

    text: str
    role: Role = "plain"


def clean(text: str) -> str:
    """Text that is safe in a terminal and in XML: vendor output may hold escape sequences and worse.

    Escape sequences go; any other control character, lone surrogate or noncharacter becomes U+FFFD; every kind of
    line break becomes a newline.
    """
    text = _ESCAPES.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
    return _UNPRINTABLE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """:func:`clean` text with every run of white space made one space."""
    return " ".join(clean(text).split())


def whole(text: str) -> str:
    """:func:`clean` text on one line, its spaces kept: a command or a path must stay what it is."""
    return clean(text).replace("\n", " ").strip()


def cut(text: str, width: int) -> str:
    """Text on one line and at most ``width`` characters long, with an ellipsis where it was cut."""
    text = one_line(text)
    return text if len(text) <= width else text[: max(width - 1, 0)].rstrip() + "…"


def aligned(left: str, right: str, width: int) -> str:
    """An aligned left part, spaces and all, and as much of the right part as has room."""
    return left + cut(right, width - len(left)) if len(left) < width else left[: width - 1] + "…"


def failure_text(requirement: Requirement, outcome: Outcome, width: int = 100) -> str:
    """One failure, in the order in which it is to be read, with the vendor's own output last and whole."""
    lines = [line.text for line in failure_lines(requirement, outcome, width)]
    if outcome.finding and outcome.finding.detail.strip():
        detail = clean(outcome.finding.detail).expandtabs().strip("\n")
        lines += ["", *(f"{'':{_INDENT}}{line}".rstrip() for line in detail.splitlines())]
    return "\n".join(lines)


def failure_lines(requirement: Requirement, outcome: Outcome, width: int = 100, room: int | None = None) -> list[Line]:
    """One failure without the vendor's output, in at most ``room`` lines (it needs four, five if it is not a fail).

    Id, title and text of the rule; what it ended as, where that is not a fail; what was expected and seen; the call;
    the likely cause and where; the reason of the rule with its first source; the command that runs just this again.
    Where room is short, long texts are cut first, then whole parts go; what was expected and seen and the command stay.
    """
    head = Line(aligned(f"{requirement.id}  ", requirement.title, width), "bad")
    parts = _parts(requirement, outcome)
    lines: list[Line] = []
    for rows, without in _SHORTER:
        lines = [head]
        for name, (label, text, role) in parts.items():
            if name not in without:
                lines += labelled(label, text, width, role, rows)
        if room is None or len(lines) <= room:
            break
    return lines


_SHORTER: tuple[tuple[int, frozenset[str]], ...] = (
    (_ROWS, frozenset()),
    (3, frozenset()),
    (2, frozenset()),
    (2, frozenset({"link"})),
    (1, frozenset({"link"})),
    (1, frozenset({"link", "reason"})),
    (1, frozenset({"link", "reason", "rule"})),
    (1, frozenset({"link", "reason", "rule", "call"})),
    (1, frozenset({"link", "reason", "rule", "call", "cause"})),
    (1, frozenset({"link", "reason", "rule", "call", "cause", "where"})),
)


def _parts(requirement: Requirement, outcome: Outcome) -> dict[str, tuple[str, str, Role]]:
    """Label, text and role of each part of a failure, in the order in which they are read."""
    failed = outcome.outcome == "fail"
    finding = outcome.finding or Finding(expected="", seen=outcome.message if failed else "")
    source = requirement.sources[0] if requirement.sources else ""
    return {
        "rule": ("rule", requirement.text, "plain"),
        "state": ("" if failed else outcome.outcome, "" if failed else outcome.message, "plain"),
        "expected": ("expected", finding.expected, "plain"),
        "seen": ("seen", finding.seen, "plain"),
        "call": ("call", finding.call, "plain"),
        "cause": ("cause", finding.cause, "plain"),
        "where": ("where", finding.where, "copy"),
        "reason": ("why", requirement.reason, "quiet"),
        "link": ("", source, "copy"),
        "reproduce": ("run again", outcome.reproduce, "copy"),
    }


def labelled(label: str, text: str, width: int, role: Role = "plain", rows: int = _ROWS) -> list[Line]:
    """Text in a column behind its label, wrapped to the width and at most ``rows`` lines; nothing for empty text.

    Text to be copied stays on one line, whole.
    """
    left = f"{'':{_INDENT}}{label:<{_LABEL}}"
    if not one_line(text):
        return []
    if role == "copy":
        return [Line(left + whole(text), role)]
    column = max(width - len(left), 16)
    wrapped = textwrap.wrap(
        cut(text, (rows + 1) * column), column, max_lines=rows, placeholder=" …", break_on_hyphens=False
    )
    return [Line((left if i == 0 else " " * len(left)) + row, role) for i, row in enumerate(wrapped)]
