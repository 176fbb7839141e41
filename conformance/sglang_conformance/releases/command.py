"""``sglang-conformance releases NAME``: its options, and the runs from them to the table."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ..console import say, told
from ..contract.errors import ContractError
from ..errors import OptionError
from . import report
from .certifying import Plan, Result, certify
from .places import Place, places

DEFAULT_DEADLINE = 1800.0

RIGHT, WRONG, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("name", metavar="NAME", help="the platform: that of an installed plugin, or one built into SGLang, such as cpu")
    add("--contract", metavar="RELEASE[,RELEASE]", help="these releases alone (default: all that there are)")
    add(
        "--sglang-at",
        metavar="FOLDER",
        type=Path,
        help="certify inside the real releases that lie unpacked in the folders of this one, as made by "
        "pip install --no-deps --target FOLDER/X sglang==X (default: on the kit's re-implementation)",
    )
    add("-n", metavar="N", default="0", help="processes of a run, as pytest -n takes them (default: one alone)")
    add("--certificates", metavar="DIR", type=Path, help="keep each release's record there, in a folder of its name")
    add("--json", action="store_true", help="print the results as JSON in place of the table")
    add(
        "--deadline",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_DEADLINE,
        help="how long each release may take (default: %(default)g)",
    )
    add("--pytest", metavar="OPTIONS", default="", help="more options for each run, as --pytest='--profile core'")


def run(options: argparse.Namespace) -> int:
    """Certify for one release after another, and print as they end; the exit status.

    0 where every release that has the platform is conformant, 1 where one is not, 2 for options that cannot be used.
    """
    try:
        plan = _plan(options)
        chosen = places(options.name, options.contract, options.sglang_at)
    except (OptionError, ContractError) as error:
        return _end(str(error), UNUSABLE)
    results: list[Result] = []
    try:
        interrupted = _certify(plan, chosen, options, results)
        _close(options, results)
    except OptionError as error:
        return _end(str(error), UNUSABLE)
    except BrokenPipeError:  # the reader, a pager or head, has seen enough
        return WRONG
    except OSError as error:
        return _end(told(error), WRONG)
    if interrupted:
        return _end("interrupted", INTERRUPTED)
    return RIGHT if all(result.ended in ("conformant", "absent") for result in results) else WRONG


def _certify(plan: Plan, chosen: tuple[Place, ...], options: argparse.Namespace, results: list[Result]) -> bool:
    """Certify in one place after another, and say what came of each; whether somebody broke it off."""
    try:
        with _ending_on_request(), _home(options.certificates) as home:
            for place in chosen:
                results.append(certify(plan, place, home / place.release))
                line = report.line(results[-1])
                if options.json:
                    print(line, file=sys.stderr, flush=True)
                else:
                    say([line])
    except KeyboardInterrupt:
        return True
    return False


@contextlib.contextmanager
def _ending_on_request() -> Iterator[None]:
    """Let SIGTERM, which a CI sends when its time is over, end it as Ctrl-C does: with the run that is under way."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _close(options: argparse.Namespace, results: list[Result]) -> None:
    if options.json:
        say([json.dumps(report.to_json(options.name, results), indent=1)])
    elif results:
        say(["", *report.table(results)])


@contextlib.contextmanager
def _home(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        try:
            kept.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"--certificates={kept}: cannot be made: {error.strerror}; name another") from None
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="sglang-conformance-releases-") as folder:
        yield Path(folder)


def _plan(options: argparse.Namespace) -> Plan:
    if not 0 < options.deadline < math.inf:
        raise OptionError(f"--deadline={options.deadline:g}: a number of seconds above 0 is needed")
    if not (options.n.isascii() and options.n.isdigit()) and options.n not in ("auto", "logical"):
        raise OptionError(f"-n {options.n}: a number of processes is needed, or auto")
    if options.certificates is not None and options.certificates.exists() and not options.certificates.is_dir():
        raise OptionError(f"--certificates={options.certificates}: that is a file; name a folder")
    try:
        more = tuple(shlex.split(options.pytest))
    except ValueError as error:
        raise OptionError(f"--pytest={options.pytest}: {error}; quote the options as for a shell") from None
    return Plan(options.name, options.n, options.deadline, more)


def _end(message: str, status: int) -> int:
    print(f"sglang-conformance releases: {message}", file=sys.stderr)
    return status
