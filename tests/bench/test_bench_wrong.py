"""Platforms that are wrong, and options that cannot be used: one clear line, the right exit status, nothing left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.conftest import QUICK, run_bench, simulated
from zoo.workshop import Edit

CALL = "return _on_host(self._gloo.allreduce, args, kwargs)"
SMALL = ("sim", *QUICK, "--sizes=1K", "--engines=group")
LARGE_ENOUGH = "if args[0][0].numel() == 256 and self.rank() == 1"


def backend(body: str) -> Edit:
    """The simulated backend, whose all-reduce first does this."""
    return Edit("distributed.py", CALL, f"{body}\n        {CALL}")


def test_wrong_values_are_counted(project: Path) -> None:
    wrong = Edit(
        "distributed.py",
        CALL,
        f"{CALL.replace('return', 'work =')}\n        work.wait()\n"
        "        if self.rank() == 1 and args[0][0].numel() == 256: args[0][0]._host[..., -2:].neg_()\n"
        "        return work",
    )
    options = ("sim", *QUICK, "--sizes=1K", "--engines=pynccl", "--json=bench.json")
    ran = run_bench(project, *options, paths=[simulated(project.parent, wrong)])
    assert ran.status == 1, ran.err
    assert "WRONG VALUES: 160 elements, by backend; " in ran.out  # 2 in each of 20 calls of 4 iterations, on one rank
    record = json.loads((project / "bench.json").read_text())
    assert {each["engine"]: each["wrong"] for each in record["results"]} == {"pynccl": 0, "backend": 160, "copy": 0}
    assert record["wrong"] == 160
    assert [row[-1] for row in ran.rows if "backend" in row] == ["160"]


def test_result_of_an_earlier_call_is_wrong(project: Path) -> None:
    stale = backend(
        "kept = vars(self).setdefault('kept', {})\n"
        "        key = args[0][0].data_ptr()\n"
        "        if args[0][0].numel() == 256 and key in kept:\n"
        "            args[0][0]._host.copy_(kept[key])\n"
        "            return self._gloo.barrier()\n"
        "        work = _on_host(self._gloo.allreduce, args, kwargs)\n"
        "        work.wait()\n"
        "        kept[key] = args[0][0]._host.clone()\n"
        "        return work"
    )
    ran = run_bench(project, *SMALL[:-1], "--engines=pynccl", paths=[simulated(project.parent, stale)])
    assert ran.status == 1, ran.err
    assert "by backend; " in ran.out


def test_vendors_error_is_told_with_its_line(project: Path) -> None:
    broken = backend(f"{LARGE_ENOUGH}: raise OSError('the link is down')")
    ran = run_bench(project, *SMALL, paths=[simulated(project.parent, broken)])
    assert ran.status == 1
    assert ran.complaint.startswith("1024 bytes of float32 on 2 ranks, ")
    assert "rank 1 of 2: OSError: the link is down (" in ran.complaint
    assert "sglang_simulated/distributed.py:" in ran.complaint


def test_crash_is_told(project: Path) -> None:
    crashing = backend(f"{LARGE_ENOUGH}: import os; os.kill(os.getpid(), 11)")
    ran = run_bench(project, *SMALL, paths=[simulated(project.parent, crashing)])
    assert ran.status == 1
    assert "rank 1 of 2: its process was killed by SIGSEGV" in ran.complaint


def test_hang_ends_at_the_deadline_and_names_the_engine(project: Path) -> None:
    hanging = backend(f"{LARGE_ENOUGH}: import time; time.sleep(900)")
    options = ("sim", *QUICK, "--sizes=1K", "--engines=pynccl", "--deadline=6")
    ran = run_bench(project, *options, paths=[simulated(project.parent, hanging)])
    assert ran.status == 1
    assert ran.complaint.startswith("1024 bytes of float32 on 2 ranks, backend: rank ")
    assert "it hung, still running after 6 s; a longer --deadline helps where it is only slow" in ran.complaint


def test_platform_that_does_not_come_to_life_is_told(project: Path) -> None:
    plugin = simulated(project.parent, Edit("platform.py", "", "\nraise ImportError('no driver here')\n"))
    ran = run_bench(project, *SMALL, paths=[plugin])
    assert ran.status == 1
    assert ran.complaint.startswith("the platform could not be resolved: ")


def test_ranks_that_do_not_come_to_life_are_told(project: Path) -> None:
    plugin = simulated(
        project.parent, Edit("distributed.py", "super().__init__(rank, size)", "raise OSError('no fabric')")
    )
    ran = run_bench(project, *SMALL, paths=[plugin])
    assert ran.status == 1
    assert ran.complaint.startswith("the ranks did not come to life: rank ")
    assert "no fabric" in ran.complaint


def test_platform_that_is_not_there_is_not_measured_as_another(project: Path) -> None:
    ran = run_bench(project, "npu", *QUICK)
    assert ran.status == 1
    assert ran.out == ""
    assert ran.complaint.startswith("SGLang finds no npu on this machine, and resolves to ")
    assert "nothing of npu would be measured" in ran.complaint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("nope",), "nope: no such platform; installed plugins: "),
        (("cpu", "--contract=9.9.9"), "--contract=9.9.9: "),
        (("cpu", "--sizes=big"), "--sizes=big: a whole number of bytes is needed, as in 512, 64K, 1.5M or 1G"),
        (("cpu", "--sizes=1K", "--max=1M"), "leave one of both out"),
        (("cpu", "--dtype=int8"), "--dtype=int8: 'int8' is none of float32, float16, bfloat16"),
        (("cpu", "--engines=nccl"), "--engines=nccl: 'nccl' is none of group, custom, pynccl, graph"),
        (("cpu", "--world-size=1"), "--world-size=1: numbers of ranks from 2 to 32 are needed, as in 2,4"),
        (("cpu", "--iterations=0"), "--iterations=0: at least 1 is needed"),
        (("cpu", "--warmup=-1"), "--warmup=-1: 0 or more is needed"),
        (("cpu", "--deadline=nan"), "--deadline=nan: a number of seconds above 0 is needed"),
        (
            ("cpu", "--json=nowhere/b.json"),
            "--json=nowhere/b.json: there is no folder nowhere; make it, or name another",
        ),
        (("cpu", "--json=."), "--json=.: that is a folder; name a file"),
        (("cpu", "--plot=b.pdf"), "--plot=b.pdf: the file's name says its format; end it in .svg or .png"),
    ],
)
def test_options_that_cannot_be_used_are_told_at_once(
    options: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sglang_conformance.bench import command
    from sglang_conformance.cli import main

    def never(plan: object) -> None:
        raise AssertionError("nothing may be started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "bench", never)
    assert main(["bench", "--sglang=reference", *options]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("sglang-conformance bench: ")
    assert said in told.err
    assert told.err.count("\n") == 1


def test_missing_name_is_argparses_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    from sglang_conformance.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["bench"])
    assert ended.value.code == 2
    assert "NAME" in capsys.readouterr().err
