"""The difference of two contracts as one page of HTML, which needs nothing else: light and dark, no scripts."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from .diff import Change, ContractDiff
from .target_diff import TargetChange, TargetDiff
from .text import KINDS, counted, target_summary

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fdfdfc; --line: #d9d9d6; --soft: #62666b;
  --come: #2d7d46; --gone: #b3261e; --other: #a65d00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e6e3; --paper: #17191c; --line: #36393d; --soft: #a0a4a9;
  --come: #7fd69b; --gone: #ff8a80; --other: #ffb86b; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.summary { color: var(--soft); margin: 0; }
dl { margin: 0; } dt { margin-top: .7rem; overflow-wrap: anywhere; } dd { margin: 0 0 0 1rem; overflow-wrap: anywhere; }
dd span { color: var(--soft); display: inline-block; min-width: 2.6rem; }
b { font-weight: 600; margin-right: .5rem; } b.come { color: var(--come); } b.gone { color: var(--gone); }
b.other { color: var(--other); }
code { font: .9em ui-monospace, monospace; } summary { cursor: pointer; margin-top: .7rem; }
"""
_COLOUR = {"added": "come", "became called": "come", "removed": "gone", "stopped being called": "gone", "gone": "gone"}


def page(found: ContractDiff, targets: TargetDiff, *, every_target: bool) -> str:
    """The page; whatever comes from SGLang's source is escaped. ``every_target`` as in :func:`.text.diff_lines`."""
    title = f"SGLang {found.older} to {found.newer}"
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}: the platform contract</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}: the platform contract</h1>",
            f'<p class="summary">{counted(len(found.changes), "difference")} for platforms</p>',
            f'<p class="summary">{escape(target_summary(targets))}</p>',
            *(part for area, changes in groupby(found.changes, lambda c: c.area) for part in _area(area, changes)),
            *(_targets(targets) if every_target else ()),
            "</body></html>\n",
        )
    )


def _area(area: str, changes: Iterator[Change]) -> Iterator[str]:
    yield f"<section><h2>{escape(area[0].upper() + area[1:])}</h2><dl>"
    yield from map(_change, changes)
    yield "</dl></section>"


def _change(change: Change) -> str:
    kind = "likely renamed" if change.likely else change.kind
    return _entry(change.kind, kind, change.name, change.before, change.after)


def _entry(colour: str, kind: str, name: str, before: str, after: str) -> str:
    head = f'<dt><b class="{_COLOUR.get(colour, "other")}">{escape(kind)}</b><code>{escape(name)}</code></dt>'
    labels = ("was", "now") if before and after else ("", "")
    given = [(label, text) for label, text in zip(labels, (before, after), strict=True) if text]
    return head + "".join(f"<dd>{_label(label)}<code>{escape(text)}</code></dd>" for label, text in given)


def _label(label: str) -> str:
    return f"<span>{label}</span>" if label else ""


def _targets(targets: TargetDiff) -> Iterator[str]:
    yield "<section><h2>Hook targets</h2>"
    for kind, words in KINDS.items():
        changes = [change for change in targets.changes if change.kind == kind]
        if changes:
            yield f"<details><summary>{targets.count(kind)} {words}</summary><dl>"
            yield from map(_target, changes)
            yield "</dl></details>"
    yield "</section>"


def _target(change: TargetChange) -> str:
    name = change.path + (f", and {change.within} in it" if change.within else "")
    before = change.before if change.kind != "moved" else change.path
    return _entry(change.kind, change.kind, name, before if change.after else "", change.after)
