"""The closing summary of a run: one screen that says where it stands and what to mend first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ..requirements.model import Requirement
from .model import OUTCOMES, Certificate, Outcome, Verdict
from .text import Line, Role, aligned, cut, failure_lines, labelled, one_line, whole
from .verdict import PROVISIONAL, decides

_ROLES: Mapping[str, Role] = {"conformant": "good", "not-conformant": "bad", "incomplete": "warning"}
_BLANK = Line("")
_LABEL = 12
_UNJUDGED_ROWS = 10


def summary(
    certificate: Certificate,
    requirements: Iterable[Requirement],
    *,
    record: str,
    width: int = 100,
    height: int = 24,
) -> list[Line]:
    """The summary as at most ``height`` lines of at most ``width`` columns; below 40 by 18 it takes 40 by 18.

    Who was judged; a line for each profile; the first failure to mend, in full as far as it fits, and the other failing
    requirements, or what was not judged; defects of SGLang itself, where there is room; then what is blocked, warnings,
    why a run cannot certify, and ``record``, where it all is. Of the failures that decide, the one that blocks most
    comes first. Only lines of the role ``copy`` may be wider.
    """
    width, height = max(width, 40), max(height, 18)
    by_id = {requirement.id: requirement for requirement in requirements}
    top = [_subject(certificate, width), *_profiles(certificate, width, most=height // 4)]
    bottom = _facts(certificate, record, width)
    room = height - len(top) - len(bottom) - 2
    middle = _mend(certificate, by_id, width, room)
    parts = [part for part in (middle, _defects(certificate, width, room - len(middle) - bool(middle))) if part]
    return [*top, _BLANK, *(line for part in parts for line in (*part, _BLANK)), *bottom]


def _subject(certificate: Certificate, width: int) -> Line:
    run = certificate.run
    who = f"{run.platform.name} {run.platform.version}".strip()
    if run.platform.distribution not in ("", run.platform.name):
        who += f" ({run.platform.distribution})"
    host = f"{run.host.kind} host"
    if run.host.kind == "installed":
        host += f" {run.host.sglang}"
    return Line(cut(f"{who} · {host} · contract {run.contract}", width), "heading")


def _profiles(certificate: Certificate, width: int, most: int) -> list[Line]:
    verdicts = certificate.profiles
    if len(verdicts) > most:
        left = len(verdicts) - most + 1
        rest = Line(f"… and {left} more profiles", "quiet")
        return [*_profiles_of(verdicts[: most - 1], width), rest]
    return _profiles_of(verdicts, width)


def _profiles_of(verdicts: Sequence[Verdict], width: int) -> list[Line]:
    names = max((len(one_line(v.profile)) for v in verdicts), default=0)
    required = max((len(str(v.required)) for v in verdicts), default=0)
    lines = []
    for v in verdicts:
        left = f"{one_line(v.profile):<{names}}  {v.verdict:<14}  {v.required:>{required}} required: "
        counts = [f"{v.counts[name]} {name}" for name in OUTCOMES if v.counts[name]] or ["none"]
        lines += [Line(row, _ROLES[v.verdict]) for row in _packed(left, counts, width)]
    return lines


def _packed(left: str, items: Sequence[str], width: int) -> list[str]:
    """A row that begins with ``left`` and lists the items, and as many more rows as they need."""
    rows = [left + items[0]]
    for item in items[1:]:
        if len(rows[-1]) + len(f", {item},") <= width:
            rows[-1] += f", {item}"
        else:
            rows[-1] += ","
            rows.append(f"{'':{_LABEL + 1}}{item}")
    return [row if len(row) <= width else f"{row[: width - 1]}…" for row in rows]


def _mend(certificate: Certificate, by_id: Mapping[str, Requirement], width: int, room: int) -> list[Line]:
    """What to mend first; without a failure that decides, what could not be judged, or what else failed.

    What no check reported on, as where a part of the suite was asked for, comes last. At most ``room`` lines.
    """
    blocked = Counter(o.cause for o in certificate.outcomes if o.cause)
    failing = [o for o in certificate.outcomes if o.outcome == "fail"]
    deciding = sorted(filter(decides, failing), key=lambda o: -blocked[o.requirement])
    if deciding:
        return _failures("Mend first", deciding, by_id, width, room)
    unjudged = [o for o in certificate.outcomes if decides(o) and o.outcome in ("blocked", "not-run")]
    if failing and not any(o.checks for o in unjudged):
        return _failures("Worth mending", failing, by_id, width, room)
    return _unjudged(unjudged, width, min(room, _UNJUDGED_ROWS))


def _failures(
    title: str, failing: Sequence[Outcome], by_id: Mapping[str, Requirement], width: int, room: int
) -> list[Line]:
    """The first in full as far as it fits, and the others' names."""
    first, others = failing[0], failing[1:]
    reserved = min(len(others), 4) + 2 if others else 0
    full = failure_lines(by_id[first.requirement], first, width, max(room - reserved - 1, 4))
    told = [Line(title, "heading"), *full]
    more = _listing("Then", others, by_id, width, room - len(told) - 1)
    return [*told, _BLANK, *more] if more else told


def _listing(
    title: str, outcomes: Sequence[Outcome], by_id: Mapping[str, Requirement], width: int, room: int
) -> list[Line]:
    """A heading and a line for each outcome, the last one counting what has no room; nothing where none fits."""
    if not outcomes or room < 2:
        return []
    shown = len(outcomes) if len(outcomes) < room else room - 2
    lines = [Line(aligned(f"  {o.requirement}  ", by_id[o.requirement].title, width)) for o in outcomes[:shown]]
    left = len(outcomes) - shown
    if left:
        lines.append(Line(f"  … and {left} more" if shown else f"  {left} requirements", "quiet"))
    return [Line(title, "heading"), *lines]


def _unjudged(unjudged: Sequence[Outcome], width: int, room: int) -> list[Line]:
    """Why there is no judgement, each reason once, with the first requirement that it holds for; not what follows."""
    reasons: dict[str, list[str]] = {}
    for outcome in [o for o in unjudged if not o.cause] or unjudged:
        reasons.setdefault(outcome.message, []).append(outcome.requirement)
    if not reasons or room < 2:
        return []
    lines = [Line("Not judged", "heading")]
    for told, (reason, names) in enumerate(reasons.items()):
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        rows = labelled(names[0], reason + more, width, rows=4)
        if len(lines) + len(rows) > room - (told + 1 < len(reasons)):
            return [*lines, Line(f"  … and {len(reasons) - told} more reasons", "quiet")]
        lines += rows
    return lines


def _defects(certificate: Certificate, width: int, room: int) -> list[Line]:
    """What of SGLang itself breaks its rules, one line each or two, the last one counting what has no room."""
    found = [o for o in certificate.outcomes if o.outcome == "host-defect"]
    if not found or room < 3:
        return []
    lines = [Line("Defects of SGLang itself", "heading")]
    rows = 2 if 2 * len(found) < room else 1
    for told, outcome in enumerate(found):
        more = labelled(outcome.requirement, outcome.message, width, rows=rows)
        if len(lines) + len(more) > room - (told + 1 < len(found)):
            return [*lines, Line(f"  … and {len(found) - told} more", "quiet")]
        lines += more
    return lines


def _facts(certificate: Certificate, record: str, width: int) -> list[Line]:
    """The last lines: blocked by what, warnings, why it cannot certify, where the record is."""
    blocked = Counter(o.cause for o in certificate.outcomes if o.outcome == "blocked")
    alone = [o.requirement for o in certificate.outcomes if o.outcome == "blocked" and not o.cause]
    names = ", ".join(alone[:3]) + (", …" if len(alone) > 3 else "")
    by_root = [f"{count} {f'by {root}' if root else f'by no other: {names}'}" for root, count in blocked.most_common()]
    total = f"{sum(blocked.values())}: " if len(by_root) > 1 else ""
    return [
        *_fact("blocked", total + ", ".join(by_root), width),
        *_fact("of SGLang", _counted([o for o in certificate.outcomes if o.outcome == "host-defect"]), width),
        *_fact("warnings", _failing(certificate, "SHOULD"), width, "warning"),
        *_fact("to come", _failing(certificate, PROVISIONAL), width),
        *_fact("no verdict", _development(certificate), width, "warning"),
        *_fact("record", record, width, "copy"),
    ]


def _fact(label: str, text: str, width: int, role: Role = "quiet") -> list[Line]:
    if not one_line(text):
        return []
    left = f"{label:<{_LABEL}}"
    return [Line(left + whole(text) if role == "copy" else aligned(left, text, width), role)]


def _failing(certificate: Certificate, level: str) -> str:
    return _counted([o for o in certificate.outcomes if o.level == level and o.outcome == "fail"])


def _counted(outcomes: Sequence[Outcome]) -> str:
    return f"{len(outcomes)}: {', '.join(o.requirement for o in outcomes)}" if outcomes else ""


def _development(certificate: Certificate) -> str:
    reasons = certificate.run.reasons
    return f"development run: {'; '.join(reasons)}" if reasons else ""
