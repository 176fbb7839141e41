"""``sglang-conformance radar PLUGIN``: its options, and one run from them to the report."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from ..console import say, see_that_it_can_be_written, told, width
from ..contract import tables
from ..contract.errors import ContractError
from ..errors import OptionError
from . import importing, page, record, text
from .opening import open_plugin, see_that_some_was_read
from .plugin import PluginError
from .reading.code import Code
from .reading.history import History
from .report import Report
from .survey import judge

RIGHT, BREAKS, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("plugin", metavar="PLUGIN", help="a source folder, a wheel, or an installed distribution or platform")
    add("--from", dest="start", metavar="RELEASE", help="the SGLang release before (default: the oldest it works on)")
    add("--to", dest="end", metavar="RELEASE", help="the SGLang release after (default: the newest bundled)")
    add(
        "--import",
        dest="imports",
        action="store_true",
        help="also import it, in a process of its own, for each release",
    )
    add(
        "--deadline",
        metavar="SECONDS",
        type=float,
        default=importing.DEADLINE,
        help="how long each import may take (default: %(default)g)",
    )
    add("--json", metavar="FILE", type=Path, help="write the record there (- prints it instead of the report)")
    add("--html", metavar="FILE", type=Path, help="write a page there")


def run(options: argparse.Namespace) -> int:
    """Judge the plugin, and print what was found; the exit status.

    0 where nothing breaks in the release that was asked for, 1 where something does, 2 for options or a plugin that
    cannot be used.
    """
    try:
        start, end = _releases(options.start, options.end)
        see_that_it_can_be_written("--json", options.json, printed=True)
        see_that_it_can_be_written("--html", options.html)
        if not 0 < options.deadline < math.inf:
            raise OptionError(f"--deadline={options.deadline:g}: a number of seconds above 0 is needed")
        report = _report(options, start, end)
        _write(options, report)
    except (OptionError, PluginError, ContractError) as error:
        return _end(str(error), UNUSABLE)
    except BrokenPipeError:
        pass  # the reader, a pager or head, has seen enough
    except OSError as error:
        return _end(f"cannot write {told(error)}", UNUSABLE)
    except KeyboardInterrupt:
        return _end("interrupted", INTERRUPTED)
    return BREAKS if report.breaks else RIGHT


def _report(options: argparse.Namespace, start: str, end: str) -> Report:
    plugin = open_plugin(options.plugin)
    see_that_some_was_read(plugin)
    code = Code.of(plugin)
    known = tables.releases()
    history = History({release: tables.load(release) for release in known}, tables.load_indexes)
    live = importing.look(plugin, history.contracts.values(), options.deadline) if options.imports else {}
    judged = {
        release: judge(plugin, code, history, release, live.get(release), brief=release != end) for release in known
    }
    return Report.of(plugin.name, plugin.version, judged, start, end, (*plugin.unread, *code.unread))


def _releases(start: str | None, end: str | None) -> tuple[str, str]:
    """The releases that the options name; the first empty where it is left to the plugin."""
    known = tables.releases()
    for option, release in (("--from", start), ("--to", end)):
        if release is not None and release not in known:
            raise OptionError(f"{option}={release}: no table for that release; there are: {', '.join(known)}")
    last = end or known[-1]
    if start is not None and known.index(start) > known.index(last):
        raise OptionError(f"--from={start} is newer than --to={last}: name the older release first")
    return start or "", last


def _write(options: argparse.Namespace, report: Report) -> None:
    """The files first: whoever reads what is printed may not wait for its end."""
    printed = str(options.json) == "-"
    if options.json is not None and not printed:
        options.json.write_text(record.dumps(report), encoding="utf-8")
    if options.html is not None:
        options.html.write_text(page.page(report), encoding="utf-8")
    say([record.dumps(report).removesuffix("\n")] if printed else text.lines(report, width()))


def _end(message: str, status: int) -> int:
    print(f"sglang-conformance radar: {message}", file=sys.stderr)
    return status
