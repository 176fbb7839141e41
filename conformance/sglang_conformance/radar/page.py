"""The report as one page of HTML, which needs nothing else: light and dark, no scripts."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .finding import Finding, Severity
from .report import Report, counted

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fdfdfc; --line: #d9d9d6; --soft: #62666b;
  --breaks: #b3261e; --may: #a65d00; --silent: #6b3fa0; --deprecated: #3b6ea5; --reachable: #4f6b4f; --works: #2d7d46; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e6e3; --paper: #17191c; --line: #36393d; --soft: #a0a4a9;
  --breaks: #ff8a80; --may: #ffb86b; --silent: #c9a6ff; --deprecated: #8fbcf0; --reachable: #a8cfa8;
  --works: #7fd69b; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.meaning, .when, caption { color: var(--soft); } p.meaning { margin: 0 0 .6rem; }
article { border-left: 4px solid var(--line); padding: .1rem 0 .1rem .9rem; margin: .9rem 0; overflow-wrap: anywhere; }
article h3 { font-size: 1rem; margin: 0; } article p { margin: .15rem 0; }
.breaks { border-color: var(--breaks); } .may-break { border-color: var(--may); }
.dies-silently { border-color: var(--silent); } .deprecated { border-color: var(--deprecated); }
.reachable { border-color: var(--reachable); }
code { font: .9em ui-monospace, monospace; } .verdict { font-size: 1.1rem; font-weight: 600; }
.verdict.bad { color: var(--breaks); } .verdict.good { color: var(--works); }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; } caption { text-align: left; padding-bottom: .3rem; }
th, td { border: 1px solid var(--line); padding: .2rem .6rem; text-align: right; } th:first-child { text-align: left; }
td.none { color: var(--soft); } td.some { font-weight: 600; }
"""


def page(report: Report) -> str:
    """The page; whatever comes from the plugin is escaped."""
    title = f"{report.name} {report.version}".strip()
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)} on SGLang {escape(report.end)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1><p>SGLang {escape(report.start)} to {escape(report.end)}</p>",
            f'<p class="verdict {"bad" if report.breaks else "good"}">{escape(report.verdict())}</p>',
            "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in report.matrix()) + "</ul>",
            *(part for severity in Severity for part in _section(report, severity)),
            *_unread(report),
            *_matrix(report),
            "</body></html>\n",
        )
    )


def _section(report: Report, severity: Severity) -> Iterator[str]:
    found = report.of_severity(severity)
    if found:
        yield f"<section><h2>{escape(severity.value.capitalize())}: {counted(len(found), 'finding')}</h2>"
        yield f'<p class="meaning">{escape(severity.meaning)}</p>'
        yield from (_article(finding) for finding in found)
        yield "</section>"


def _article(finding: Finding) -> str:
    when = f"since {finding.since}" + (", so before" if finding.before else "")
    return (
        f'<article class="{finding.severity.value.replace(" ", "-")}"><h3>{escape(finding.what)}</h3>'
        f'<p><code>{escape(str(finding.place))}</code> <span class="when">{escape(when)} &middot; '
        f"{escape(finding.kind)}</span></p>"
        f"<p>Why: {escape(finding.why)}</p><p>Mend: {escape(finding.mend)}</p></article>"
    )


def _unread(report: Report) -> Iterator[str]:
    if report.unread:
        items = "".join(f"<li>{escape(line)}</li>" for line in report.unread)
        yield f"<section><h2>Not judged</h2><ul>{items}</ul></section>"


def _matrix(report: Report) -> Iterator[str]:
    heads = "".join(f"<th>{escape(severity.value)}</th>" for severity in Severity)
    yield '<section><h2>All releases</h2><div class="wide"><table><caption>Findings by release and severity</caption>'
    yield f"<thead><tr><th>SGLang</th>{heads}</tr></thead><tbody>"
    for release, counts in report.counts.items():
        cells = "".join(_cell(counts[severity.value]) for severity in Severity)
        yield f"<tr><th>{escape(release)}</th>{cells}</tr>"
    yield "</tbody></table></div></section>"


def _cell(number: int) -> str:
    return f'<td class="{"some" if number else "none"}">{number}</td>'
