"""One certification in a process of its own: pytest with a deadline, and what its record and its screen say."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..certificate.folder import RECORD
from ..certificate.model import Certificate
from ..certificate.record import RecordError, read
from ..certificate.verdict import decides
from .places import Place

Ended = Literal["conformant", "not-conformant", "incomplete", "absent", "broken"]
"""``absent``: the release brings no such platform. ``broken``: the run came to no verdict at all."""

SCREEN = "pytest.txt"
"""What pytest printed, beside the record."""

_GRACE = 30.0
_CHANGING = ("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
"""What would change a run: other options, and pytest without xdist."""

_COMPLAINT = re.compile(r"^(?:ERROR: (?!usage:)|python -m pytest: error: )(.+)")
_PLUGIN = f"{__package__.rpartition('.')[0]}.plugin"


@dataclass(frozen=True)
class Plan:
    """What every run is asked: ``workers`` of xdist, ``seconds`` that it may take, ``options`` more for pytest."""

    platform: str
    workers: str
    seconds: float
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What one release came to.

    ``verdicts`` by profile, in the record's order; ``failed`` and ``host_defects`` are ids of requirements, the former
    of those that decide; ``said`` is why there is no verdict, or none that certifies; ``seconds`` wall time.
    """

    place: Place
    ended: Ended
    verdicts: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    host_defects: tuple[str, ...] = ()
    warnings: int = 0
    said: str = ""
    seconds: float = 0.0


def certify(plan: Plan, place: Place, folder: Path) -> Result:
    """Certify in one place; the record and the screen go to ``folder``, which is made.

    A run that is over its time is asked to end, and its processes are killed where it does not. Raises OSError where
    the folder or the process cannot be made.
    """
    if place.without:
        return Result(place, "absent", said=place.without)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    begun = time.monotonic()
    with (folder / SCREEN).open("wb") as screen:
        process = subprocess.Popen(
            _command(plan, place, folder),
            cwd=folder,
            env=_environment(place),
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with _ended(process):
            late = _over(process, plan.seconds)
    return _result(place, folder, process.returncode, late, plan.seconds, time.monotonic() - begun)


def _command(plan: Plan, place: Place, folder: Path) -> list[str]:
    known = importlib.metadata.entry_points(group="pytest11")
    loaded = [] if any(point.value == _PLUGIN for point in known) else ["-p", _PLUGIN]
    contract = [f"--contract={place.release}"] if place.folder is None else []
    return [
        *(sys.executable, "-m", "pytest", *loaded, "-p", "no:cacheprovider", f"--rootdir={folder}", "--color=no"),
        *(f"--platform={plan.platform}", f"--sglang={place.host}", *contract),
        *("-n", plan.workers, f"--certificate={folder}", *plan.options),
    ]


def _environment(place: Place) -> dict[str, str]:
    """That of this process, without what would change the run, and with the release in front of the import path."""
    plain = {name: value for name, value in os.environ.items() if name not in _CHANGING}
    here = [str(Path(entry).resolve()) for entry in plain.get("PYTHONPATH", "").split(os.pathsep) if entry]
    front = [str(place.folder)] if place.folder is not None else []
    return {**plain, "PYTHONPATH": os.pathsep.join([*front, *here]), "COLUMNS": "120"}


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process behind: pytest is asked to end first, so that it ends its own."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _over(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the process; whether it was over its time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _result(place: Place, folder: Path, status: int, late: bool, limit: float, seconds: float) -> Result:
    try:
        certificate = read(_record(folder))
    except (OSError, RecordError):
        said = f"not ended within {limit:g} s" if late else _said(folder / SCREEN, status)
        return Result(place, "broken", said=said, seconds=seconds)
    ended, said = _told(certificate), "; ".join([*certificate.run.reasons, *_unjudged(certificate)])
    if late:
        ended, said = "incomplete", f"not ended within {limit:g} s"
    elif ended == "conformant" and status != 0:
        ended, said = "broken", f"conformant by its record, but pytest ended with {status}"
    return Result(
        place,
        ended,
        {v.profile: v.verdict for v in certificate.profiles},
        tuple(o.requirement for o in certificate.outcomes if o.outcome == "fail" and decides(o)),
        tuple(o.requirement for o in certificate.outcomes if o.outcome == "host-defect"),
        sum(v.warnings for v in certificate.profiles),
        said,
        seconds,
    )


def _record(folder: Path) -> Path:
    """The run's record; that of a part of the suite lies in a folder of its own."""
    from ..running import PART

    whole = folder / RECORD
    return whole if whole.exists() else folder / PART / RECORD


def _told(certificate: Certificate) -> Ended:
    """What a record says in a word; a development run certifies nothing, but it can fail."""
    verdicts = {v.verdict for v in certificate.profiles}
    if "not-conformant" in verdicts:
        return "not-conformant"
    certifies = certificate.run.kind == "certification" and verdicts == {"conformant"}
    return "conformant" if certifies else "incomplete"


def _unjudged(certificate: Certificate) -> Iterator[str]:
    """Why what decides was not judged: the first reason, other than that no check was run at all."""
    for outcome in certificate.outcomes:
        if outcome.outcome in ("blocked", "not-run") and decides(outcome) and outcome.checks and not outcome.cause:
            yield f"{outcome.requirement}: {outcome.message}"
            return


def _said(screen: Path, status: int) -> str:
    """Why pytest came to no record: its own complaint, or the last that it printed."""
    lines = [line.strip() for line in screen.read_text(encoding="utf-8", errors="replace").splitlines()]
    complaints = [found[1] for found in map(_COMPLAINT.search, lines) if found]
    if complaints:
        return complaints[-1]
    last = next((line for line in reversed(lines) if line), "it printed nothing")
    return f"pytest ended with {status}: {last}"
