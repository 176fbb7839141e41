"""Wrong plugins: the run says which rule is broken, where, why it matters, and how to run just that again."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from plugin.conftest import Ran, acme, command, environment, run_pytest
from probes.processes import MARK, comes_true, marked
from zoo.workshop import Edit

PACKAGE = "acme/__init__.py"
DAEMON = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)\n"


def on_import(code: str) -> Edit:
    return Edit("__init__.py", "import os\n", f"import os\n{code}\n")


@dataclass(frozen=True)
class Wrong:
    """A wrong plugin: the edit that makes it so, the rule it breaks, and texts of the screen."""

    name: str
    edits: tuple[Edit, ...]
    requirement: str
    seen: str
    where: str = PACKAGE


WRONG = (
    Wrong(
        "wrong-group",
        (Edit("entry_points.txt", "[sglang.srt.platforms]", "[sglang.platform_plugins]"),),
        "PKG-001",
        "acme in [sglang.platform_plugins]",
        "entry_points.txt of acme-plugin",
    ),
    Wrong("exits", (on_import(DAEMON + "os._exit(0)"),), "PKG-003", "exited with status 0", ""),
    Wrong("system-exit", (on_import("raise SystemExit(3)"),), "PKG-003", "SystemExit: 3"),
    Wrong("hangs", (on_import(DAEMON + "import time; time.sleep(600)"),), "PKG-003", "still running after 2 s"),
    Wrong(
        "prints-and-fails",
        (on_import("for _ in range(300): print('x' * (1 << 20))\nraise OSError('no driver')"),),
        "PKG-003",
        "OSError: no driver",
    ),
    Wrong(
        "activates-to-a-class",
        (
            Edit(
                "__init__.py",
                'return "acme.platform.AcmePlatform"',
                "from acme.platform import AcmePlatform\n    return AcmePlatform",
            ),
        ),
        "ACT-",
        "AcmePlatform",
    ),
    Wrong(
        "memory-in-gigabytes",
        (
            Edit("device.py", "return TOTAL\n", "return TOTAL >> 30\n"),
            Edit("device.py", "return TOTAL - _used(), TOTAL", "return (TOTAL - _used()) >> 30, TOTAL >> 30"),
        ),
        "MEM-",
        "16",
        "acme/device.py",
    ),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_wrong_plugin_is_told_what_where_why_and_how_to_run_it_again(wrong: Wrong, project: Path) -> None:
    # Memory is looked at alone: all that its platform answers rightly would take long.
    options = ["-k", "MEM"] if wrong.requirement == "MEM-" else []
    ran = run_pytest(project, "--platform=acme", "--deadline=1", *options, paths=[acme(project.parent, *wrong.edits)])
    assert ran.status == 1, ran.screen
    assert_no_traceback_of_ours(ran)
    text = "\n".join(ran.summary)
    assert len(ran.summary) <= 24
    first = text.partition("Mend first\n")[2]
    assert first.startswith(wrong.requirement)
    requirement = first.split()[0]
    assert field(first, "seen").count(wrong.seen), first
    assert wrong.where in field(first, "where")
    assert field(first, "rule")
    assert re.search(r"https://|srt/", field(first, "why"))  # a source to read: a thread, or a file of SGLang
    assert field(first, "run again").endswith(f"-k {requirement}")
    outcome = ran.record["requirements"][requirement]
    assert outcome["outcome"] == "fail"
    assert len(ran.screen) < 50_000


def test_printed_command_runs_and_fails_again(project: Path) -> None:
    installed = acme(project.parent, on_import("import acme_sdk"))
    first = run_pytest(project, "--platform=acme", paths=[installed])
    program, *options = shlex.split(field("\n".join(first.summary), "run again"))
    assert program == "pytest"
    again = run_pytest(project, *options, paths=[installed])
    assert again.status == 1, again.screen
    assert "No module named 'acme_sdk'" in field("\n".join(again.summary), "seen")
    assert again.record["requirements"]["PKG-003"]["outcome"] == "fail"
    ran = [name for name, o in again.record["requirements"].items() if o["outcome"] in ("pass", "fail")]
    assert ran == ["PKG-003"]
    assert again.record["kind"] == "development"
    assert first.record["kind"] == "certification"  # it is still there
    assert again.home == first.home / "part"
    assert first.record["requirements"]["PKG-003"]["reproduce"] == shlex.join([program, *options])
    # What stands on the import is blocked by it, and named once.
    assert {o["cause"] for o in first.record["requirements"].values() if o["outcome"] == "blocked"} >= {"PKG-003"}
    assert [n for n, o in first.record["requirements"].items() if o["outcome"] == "fail"] == ["PKG-003"]


def test_waived_failure_is_recorded_as_waived(project: Path) -> None:
    (project / "waivers.toml").write_text(
        '[[waiver]]\nrequirement = "PKG-003"\nplatform = "acme"\nowner = "acme@example.com"\n'
        'link = "https://example.com/7"\nexpires = 2999-12-31\nreason = "the driver comes next month"\n'
    )
    installed = acme(project.parent, on_import("import acme_sdk"))
    ran = run_pytest(project, "--platform=acme", "--waivers=waivers.toml", "-k", "PKG-003", paths=[installed])
    outcome = ran.record["requirements"]["PKG-003"]
    assert outcome["outcome"] == "waived", ran.screen
    assert "the driver comes next month (acme@example.com, until 2999-12-31" in outcome["message"]
    assert ran.status == 6  # narrowed; and a waiver never makes a failure a pass
    assert ran.record["profiles"]["core"]["waived"] == 1


def interrupt_all(pid: int) -> None:
    """As a terminal does at Ctrl-C."""
    os.killpg(pid, signal.SIGINT)


def terminate(pid: int) -> None:
    """As a CI does when its time is over."""
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("send", [interrupt_all, terminate], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["serial", "xdist"])
def test_interrupt_during_a_hang_leaves_the_record_so_far_and_no_process(
    workers: tuple[str, ...], send: Callable[[int], None], project: Path
) -> None:
    ready = project / "hanging"
    code = f"{DAEMON}import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command("--platform=acme", "--deadline=60", *workers),
        cwd=project,
        env=environment([acme(project.parent, on_import(code))], **{MARK: mark}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert comes_true(ready.exists, 60)
    started = time.monotonic()
    send(process.pid)
    screen, _ = process.communicate(timeout=30)
    assert time.monotonic() - started < 20, screen
    assert process.returncode == pytest.ExitCode.INTERRUPTED, screen
    assert comes_true(lambda: not marked(mark)), screen
    ran = Ran(process.returncode, screen, project)
    assert_no_traceback_of_ours(ran)
    record = ran.record
    assert record["kind"] == "development"
    outcomes = {name: outcome["outcome"] for name, outcome in record["requirements"].items()}
    assert outcomes["PKG-003"] == "not-run"
    if not workers:
        assert outcomes["PKG-001"] == "pass"
    assert ran.written == ["certificate.json", "junit.xml"]


def assert_no_traceback_of_ours(ran: Ran) -> None:
    assert "INTERNALERROR" not in ran.screen
    assert "Traceback (most recent call last)" not in ran.screen
    assert not re.search(r'File ".*sglang_conformance/', ran.screen)


def field(text: str, name: str) -> str:
    """A field of a failure on the screen: its first line and those that continue it."""
    found = re.search(rf"^  {name} +(.*(?:\n {{12,}}.*)*)", text, re.MULTILINE)
    return re.sub(r"\n +", " ", found[1]) if found else ""
