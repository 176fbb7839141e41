"""One platform, many releases: which are run and how, what each comes to, and what is said of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.conftest import environment
from probes.processes import MARK, comes_true, marked
from sglang_conformance.contract import tables

from .conftest import Command

COMMAND = "import sys; from sglang_conformance.cli import main; sys.exit(main())"
PAIR = "--contract=0.5.14,0.5.15.post1"


def rows(out: str) -> dict[str, list[str]]:
    """The rows of the table, by release."""
    lines = out.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("release "))
    return {line.split()[0]: line.split() for line in lines[begin + 2 :] if line[:1].isdigit()}


def test_every_release_is_run_on_the_reference_in_its_order(command: Command) -> None:
    right = {"record": command.record("pass", "unsupported")}
    with_cpu = [release for release in tables.releases() if "cpu" in tables.load(release).detection]
    status, out, err = command("cpu", **dict.fromkeys(with_cpu, right))
    assert (status, err) == (0, "")
    assert list(rows(out)) == list(tables.releases())
    assert {release for release, row in rows(out).items() if row[2] == "yes"} == set(with_cpu)
    assert "  not there: 0.5.11, 0.5.12, 0.5.12.post1, 0.5.13, 0.5.13.post1" in out.splitlines()
    assert out.endswith(f"conformant for {len(with_cpu)} of {len(with_cpu)} releases; 5 without such a platform\n")


def test_a_line_is_printed_as_each_ends_and_a_table_at_the_end(command: Command) -> None:
    status, out, _ = command(
        "cpu",
        PAIR,
        v0_5_14={"record": command.record("pass", "pass")},
        v0_5_15_post1={"record": command.record("fail", "pass"), "status": 1},
    )
    assert status == 1
    lines = out.splitlines()
    assert lines[0].startswith("0.5.14        reference  conformant: core; ")
    assert lines[1].startswith("0.5.15.post1  reference  not-conformant: core; failed MEM-001; ")
    table = rows(out)
    assert table["0.5.14"][1:7] == ["reference", "yes", "-", "-", "-", "-"]
    assert table["0.5.15.post1"][1:4] == ["reference", "NO", "-"]
    assert table["0.5.15.post1"][7] == "1"
    assert "  0.5.15.post1: failed MEM-001" in lines
    assert lines[-1] == "conformant for 1 of 2 releases"
    assert max(map(len, lines)) <= 100


def test_each_run_is_by_itself_and_asked_the_right_thing(command: Command) -> None:
    right = {"record": command.record("pass", "pass")}
    options = ("--certificates=kept", "-n", "2", "--pytest=--profile core --waivers 'my waivers.toml'")
    command("cpu", PAIR, *options, v0_5_14=right, v0_5_15_post1=right)
    for release in ("0.5.14", "0.5.15.post1"):
        asked = command.asked(release)
        home = command.home / "kept" / release
        assert asked["cwd"] == str(home)
        assert asked["variables"] == []
        wanted = ["--platform=cpu", "--sglang=reference", f"--contract={release}", f"--certificate={home}"]
        assert [argument for argument in asked["arguments"] if argument in wanted] == wanted
        assert asked["arguments"][-4:] == ["--profile", "core", "--waivers", "my waivers.toml"]
        assert asked["arguments"][asked["arguments"].index("-n") + 1] == "2"
        assert sorted(path.name for path in home.iterdir()) == ["certificate.json", "junit.xml", "pytest.txt"]


def test_nothing_is_kept_unasked(command: Command) -> None:
    before = set(command.home.iterdir())
    command("cpu", "--contract=0.5.14", v0_5_14={"says": "no"})
    assert set(command.home.iterdir()) == before


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"says": "ERROR: --waivers=x: there is no such file", "status": 4}, "--waivers=x: there is no such file"),
        (
            {"says": "ERROR: usage: python -m pytest [options]\npython -m pytest: error: unrecognized arguments: --x"},
            "unrecognized arguments: --x",
        ),
        ({"says": "Traceback\nSystemError: it broke", "status": 3}, "pytest ended with 3: SystemError: it broke"),
    ],
)
def test_a_run_without_a_record_says_why_in_one_line(command: Command, told: dict[str, object], said: str) -> None:
    status, out, _ = command("cpu", "--contract=0.5.14", v0_5_14=told)
    assert status == 1
    assert out.splitlines()[0] == f"0.5.14        reference  NO VERDICT: {said}"
    assert out.splitlines()[-1] == "conformant for 0 of 1 releases"


def test_record_of_an_earlier_run_is_not_taken_for_this_ones(command: Command) -> None:
    right = {"record": command.record("pass", "pass")}
    assert command("cpu", "--contract=0.5.14", "--certificates=kept", v0_5_14=right)[0] == 0
    status, out, _ = command("cpu", "--contract=0.5.14", "--certificates=kept", v0_5_14={"says": "no", "status": 3})
    assert (status, "NO VERDICT: pytest ended with 3: no" in out) == (1, True)


def test_a_conformant_record_does_not_outdo_a_failing_pytest(command: Command) -> None:
    told = {"record": command.record("pass", "pass"), "status": 1}
    status, out, _ = command("cpu", "--contract=0.5.14", v0_5_14=told)
    assert status == 1
    assert "NO VERDICT: conformant by its record, but pytest ended with 1" in out


def test_a_run_that_certifies_nothing_is_not_conformant(command: Command) -> None:
    told = {"record": command.record("pass", "pass", reasons=("narrowed by -k",)), "status": 6}
    status, out, _ = command("cpu", "--contract=0.5.14", v0_5_14=told)
    assert status == 1
    assert "; narrowed by -k; " in out.splitlines()[0]
    assert out.splitlines()[-1] == "conformant for 0 of 1 releases"


def test_what_could_not_be_judged_says_why(command: Command) -> None:
    told = {"record": command.record("blocked", "not-run", said="SGLang lacks orjson; pip install orjson"), "status": 6}
    status, out, _ = command("cpu", "--contract=0.5.14", v0_5_14=told)
    assert status == 1
    assert "incomplete: core; MEM-001: SGLang lacks orjson; pip install orjson; " in out.splitlines()[0]
    assert "  0.5.14: MEM-001: SGLang lacks orjson; pip install orjson\n" in out


def test_defects_of_sglangs_own_are_told(command: Command) -> None:
    told = {"record": command.record("host-defect", "pass"), "status": 6}
    _, out, _ = command("cpu", "--contract=0.5.14", v0_5_14=told)
    assert "SGLang's own defects MEM-001" in out


def test_a_run_over_its_time_is_ended(command: Command) -> None:
    status, out, _ = command("cpu", "--contract=0.5.14", "--deadline=1", v0_5_14={"hangs": True})
    assert status == 1
    assert out.startswith("0.5.14        reference  NO VERDICT: not ended within 1 s")
    told = {"record": command.record("pass", "pass"), "hangs": True}
    status, out, _ = command("cpu", "--contract=0.5.14", "--deadline=2", v0_5_14=told)
    assert (status, "; not ended within 2 s; " in out) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_ended_ends_its_run(command: Command, number: signal.Signals) -> None:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "releases", "cpu", "--contract=0.5.14", "--certificates=kept"],
        env={**os.environ, "TOLD": json.dumps({"0.5.14": {"hangs": True}}), MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        screen = command.home / "kept/0.5.14/pytest.txt"
        assert comes_true(lambda: screen.exists() and "asked" in screen.read_text(encoding="utf-8"), seconds=60)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, err) == (130, "sglang-conformance releases: interrupted\n")
    assert comes_true(lambda: not marked(mark), seconds=30)


def test_results_as_json(command: Command) -> None:
    status, out, err = command(
        "cpu",
        "--contract=0.5.13,0.5.14",
        "--json",
        v0_5_14={"record": command.record("pass", "pass")},
    )
    assert status == 0
    assert err.count("\n") == 2
    told = json.loads(out)
    assert told["platform"] == "cpu"
    absent, right = told["releases"]
    assert absent["ended"] == "absent"
    assert absent["said"] == "SGLang 0.5.13 brings cuda, rocm"
    assert right.pop("seconds") >= 0
    assert right == {
        "release": "0.5.14",
        "host": "reference",
        "ended": "conformant",
        "profiles": {"core": "conformant"},
        "failed": [],
        "host_defects": [],
        "warnings": 0,
        "said": "",
    }


def test_real_releases_are_run_where_they_lie(command: Command, unpacked: Callable[..., Path]) -> None:
    unpacked("0.5.15.post1")
    home = unpacked("0.5.9", "older")
    (home / "something").mkdir()
    right = {"record": command.record("pass", "pass")}
    told = {"older": right, "0.5.15.post1": right}
    status, out, _ = command("cpu", f"--sglang-at={home}", "--certificates=kept", **told)
    assert status == 0
    assert [row[:2] for row in rows(out).values()] == [["0.5.9", "installed"], ["0.5.15.post1", "installed"]]
    arguments = command.asked("0.5.9")["arguments"]
    assert "--sglang=installed" in arguments
    assert not any(argument.startswith("--contract") for argument in arguments)
    status, out, _ = command("cpu", f"--sglang-at={home}", "--contract=0.5.9", **told)
    assert (status, list(rows(out))) == (0, ["0.5.9"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nosuch"], "nosuch: no such platform; installed plugins: none; built into SGLang 0.5.23: cpu, sail,"),
        (
            ["cpu", "--contract=0.5.13"],
            "cpu: no such platform; installed plugins: none; built into SGLang 0.5.13: cuda",
        ),
        (["cpu", "--contract=0.5.99"], "--contract=0.5.99: no SGLang 0.5.99 with a contract table; there are: 0.5.11,"),
        (["cpu", "--contract=,"], "--contract=,: no release is named; there are: 0.5.11,"),
        (["cpu", "--sglang-at=nowhere"], "--sglang-at=nowhere: no such folder; name one"),
        (["cpu", "--sglang-at=stand-in"], "--sglang-at=stand-in: none of its folders holds a release; make one by pip"),
        (["cpu", "--deadline=0"], "--deadline=0: a number of seconds above 0 is needed"),
        (["cpu", "-n", "many"], "-n many: a number of processes is needed, or auto"),
        (["cpu", "--certificates=stand-in/pytest.py"], "--certificates=stand-in/pytest.py: that is a file"),
        (["cpu", "--certificates=/proc/none"], "--certificates=/proc/none: cannot be made: No such file or directory"),
        (["cpu", "--pytest='"], "--pytest=': No closing quotation; quote the options as for a shell"),
    ],
)
def test_options_that_cannot_be_used_get_one_line(command: Command, options: list[str], said: str) -> None:
    status, out, err = command(*options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"sglang-conformance releases: {said}")


def test_a_real_run_comes_to_a_record_and_imports_nothing_heavy_here(tmp_path: Path) -> None:
    code = (
        "import sys; from sglang_conformance.cli import main\n"
        "status = main(sys.argv[1:])\n"
        "sys.exit(f'imported: {found}' if (found := {'torch', 'hypothesis', 'sglang'} & set(sys.modules)) else status)"
    )
    options = ["releases", "cpu", "--contract=0.5.15.post1", "--json", "--certificates=kept", "--pytest=-k PKG-001"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *options],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 1, ran.stderr
    (told,) = json.loads(ran.stdout)["releases"]
    assert (told["release"], told["ended"], told["profiles"]["core"]) == ("0.5.15.post1", "incomplete", "incomplete")
    assert "narrowed by -k" in told["said"]
    assert (tmp_path / "kept/0.5.15.post1/part/certificate.json").is_file()
    assert os.listdir(tmp_path) == ["kept"]
