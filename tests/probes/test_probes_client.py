from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sglang_conformance.probes import client
from sglang_conformance.probes.channel import MOST_BYTES
from sglang_conformance.probes.client import Warm, Zygote
from sglang_conformance.probes.result import Failure, Output, Result, ZygoteError

HERE = Path(__file__).parent
GRACE = 2.0
"""What a deadline may cost beyond itself, with room for a busy machine."""


def failure_of(result: Result) -> Failure:
    assert result.failure is not None
    return result.failure


# What a probe gives back.


@pytest.mark.parametrize("value", [None, 3, "text", [1, {"a": [2.5, True, None]}]])
def test_value_comes_back(warm: Warm, value: object) -> None:
    result = warm.run("probes.jobs:answer", {"value": value})
    assert result.failure is None
    assert result.value == value
    assert result.output == ""
    assert result.orphans == 0


def test_error_comes_back_with_its_frames(warm: Warm) -> None:
    failure = failure_of(warm.run("probes.jobs:raises"))
    assert (failure.kind, failure.type, failure.message) == ("raised", "ValueError", "no such device")
    assert "Exception" in failure.bases
    file, line, function = failure.frames[-1]
    assert (Path(file), function) == (HERE / "jobs.py", "raises")
    assert Path(file).read_text().splitlines()[line - 1].strip() == 'raise ValueError("no such device")'
    assert failure.traceback.startswith("Traceback")


def test_error_without_a_text_still_comes_back(warm: Warm) -> None:
    failure = failure_of(warm.run("probes.jobs:raises_with_a_broken_text"))
    assert (failure.kind, failure.type) == ("raised", "Broken")
    assert failure.message == "<its __str__ raised ValueError>"


def test_error_that_carries_code_still_comes_back(warm: Warm) -> None:
    failure = failure_of(warm.run("probes.jobs:raises_with_code_attached"))
    assert failure.kind == "raised"
    assert failure.message == "no such device"


def test_unknown_job_is_a_failure_of_the_probe(warm: Warm) -> None:
    assert failure_of(warm.run("probes.jobs:no_such_job")).type == "AttributeError"
    assert failure_of(warm.run("no_such_module:job")).type == "ModuleNotFoundError"


def test_progress_comes_back_in_order_also_from_a_probe_that_hangs(warm: Warm) -> None:
    assert warm.run("probes.jobs:says", {"words": ["one", "two"]}).progress == ("one", "two")
    assert warm.run("probes.jobs:hangs", deadline=0.2).progress == ("about to hang",)


# How a probe ends.


@pytest.mark.parametrize("status", [0, 5])
def test_exit_without_an_answer_is_told_with_its_status(warm: Warm, status: int) -> None:
    failure = failure_of(warm.run("probes.jobs:leaves", {"status": status}))
    assert failure.kind == "exited"
    assert f"exited with status {status}" in failure.message


def test_system_exit_is_an_error_like_others(warm: Warm) -> None:
    failure = failure_of(warm.run("probes.jobs:system_exit"))
    assert (failure.kind, failure.type, failure.message) == ("raised", "SystemExit", "3")
    assert failure.frames[-1][2] == "system_exit"


def test_death_by_a_signal_is_told_by_its_name(warm: Warm) -> None:
    failure = failure_of(warm.run("probes.jobs:kills_itself"))
    assert (failure.kind, failure.message) == ("killed", "its process was killed by SIGSEGV")


def test_hang_ends_at_its_deadline_and_shows_its_stack(warm: Warm) -> None:
    result = warm.run("probes.jobs:hangs", deadline=0.3)
    failure = failure_of(result)
    assert (failure.kind, failure.message) == ("hung", "still running after 0.3 s; it was killed")
    assert 0.3 <= result.seconds < 0.3 + GRACE
    assert f'File "{HERE / "jobs.py"}"' in result.output
    assert "in hangs" in result.output


def test_hang_that_is_deaf_to_signals_ends_as_well(warm: Warm) -> None:
    result = warm.run("probes.jobs:hangs_deaf", deadline=0.2)
    assert failure_of(result).kind == "hung"
    assert result.seconds < 0.2 + GRACE


def test_endless_output_ends_at_its_deadline(warm: Warm) -> None:
    result = warm.run("probes.jobs:prints_for_ever", deadline=0.3)
    assert failure_of(result).kind == "hung"
    assert result.seconds < 0.3 + GRACE
    assert len(result.output) < 100_000


def test_endless_output_of_a_child_left_behind_ends_with_the_probe(warm: Warm) -> None:
    result = warm.run("probes.jobs:leaves_a_printing_child", deadline=10)
    assert result.value == "left"
    assert result.orphans == 1
    assert result.seconds < 10


def test_failed_probe_leaves_the_warm_process_ready(warm: Warm) -> None:
    for job in (
        "probes.jobs:raises",
        "probes.jobs:kills_itself",
        "probes.jobs:system_exit",
        "probes.jobs:returns_code",
    ):
        warm.run(job)
    assert warm.run("probes.jobs:answer", {"value": "still here"}).value == "still here"


# What a probe prints.


def test_output_of_many_megabytes_is_kept_head_and_tail(warm: Warm) -> None:
    result = warm.run("probes.jobs:prints", {"megabytes": 300}, deadline=60)
    assert result.value == "printed"
    assert len(result.output) < 100_000
    assert result.output.startswith("first\n")
    assert result.output.endswith("last\n")
    assert f"[... {(300 << 20) + len('first last ') - (64 << 10)} bytes not kept ...]" in result.output


def test_closed_output_is_no_trouble(warm: Warm) -> None:
    assert warm.run("probes.jobs:closes_its_output").value == "fine"


def test_input_is_empty(warm: Warm) -> None:
    assert warm.run("probes.jobs:reads_its_input").value == ""


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_output_is_bounded_however_it_comes(size: int) -> None:
    output = Output()
    text = b"".join(b"%07d\n" % number for number in range(1 << 15))  # 256 KiB
    for start in range(0, len(text), max(size, 64)):
        output.add(text[start : start + max(size, 64)])
    kept = output.text()
    assert kept.startswith("0000000\n0000001\n")
    assert kept.endswith(f"{(1 << 15) - 1:07}\n")
    assert len(kept) < (64 << 10) + 100
    assert output.dropped == len(text) - (64 << 10)


def test_short_output_is_kept_whole() -> None:
    output = Output()
    for _ in range(10):
        output.add(b"line\n")
    assert output.text() == "line\n" * 10


def test_output_that_is_no_text_is_kept_readable() -> None:
    output = Output()
    output.add(b"\xff\xfe driver \xf0\x9f")
    assert "driver" in output.text()


# What a probe may return.


def test_value_that_is_no_plain_data_is_refused(warm: Warm) -> None:
    failure = failure_of(warm.run("probes.jobs:returns_code"))
    assert (failure.kind, failure.type) == ("raised", "TypeError")
    assert "not JSON serializable" in failure.message


def test_value_too_large_is_refused_with_its_size(warm: Warm) -> None:
    failure = failure_of(warm.run("probes.jobs:returns_bytes", {"megabytes": 17}))
    assert (failure.kind, failure.type) == ("raised", "ValueError")
    assert str(MOST_BYTES) in failure.message


def test_large_value_comes_whole(warm: Warm) -> None:
    assert len(warm.run("probes.jobs:returns_bytes", {"megabytes": 8}).value) == 8 << 20


def test_value_too_deep_is_refused(warm: Warm) -> None:
    failure = failure_of(warm.run("probes.jobs:returns_depth"))
    assert (failure.kind, failure.type) == ("raised", "RecursionError")


# Warm processes made of warm processes.


def test_state_is_kept_for_the_probes_that_follow(warm: Warm) -> None:
    first, made = warm.warm("probes.jobs:become", {"value": {"stage": 1}})
    assert first is not None
    assert made.value == "ready"
    second, _ = first.warm("probes.jobs:become", {"value": {"stage": 2}})
    assert second is not None
    assert [w.run("probes.jobs:state").value for w in (first, second, warm)] == [{"stage": 1}, {"stage": 2}, None]
    assert [w.run("probes.jobs:state").value for w in (second, first)] == [{"stage": 2}, {"stage": 1}]


def test_job_that_fails_makes_no_warm_process(warm: Warm) -> None:
    none, result = warm.warm("probes.jobs:raises")
    assert none is None
    assert failure_of(result).message == "no such device"
    none, result = warm.warm("probes.jobs:hangs", deadline=0.2)
    assert none is None
    assert failure_of(result).kind == "hung"
    assert warm.run("probes.jobs:answer", {"value": 1}).value == 1


def test_threads_are_counted(warm: Warm) -> None:
    quiet, _ = warm.warm("probes.jobs:become", {"value": None})
    busy, _ = warm.warm("probes.jobs:leaves_a_thread")
    assert quiet is not None
    assert busy is not None
    assert (quiet.threads, busy.threads) == (1, 2)


def test_closed_warm_process_ends_and_its_parent_serves_on(warm: Warm) -> None:
    made, _ = warm.warm("probes.jobs:become", {"value": None})
    assert made is not None
    made.close()
    with pytest.raises(ZygoteError):
        made.run("probes.jobs:pid")
    assert warm.run("probes.jobs:answer", {"value": 2}).value == 2


def test_killing_the_parent_is_told_and_the_zygote_serves_on(zygote: Zygote) -> None:
    lost = client.connect(zygote.address)
    with pytest.raises(ZygoteError, match="gone"):
        lost.run("probes.jobs:kills_its_parent", deadline=5)
    with pytest.raises(ZygoteError):
        lost.run("probes.jobs:pid")
    lost.close()
    again = client.connect(zygote.address)
    assert again.run("probes.jobs:answer", {"value": 3}).value == 3
    again.close()


def test_what_is_asked_of_a_process_that_is_gone_is_told_and_leaves_nothing(zygote: Zygote) -> None:
    lost = client.connect(zygote.address)
    asked = lost.start("probes.jobs:hangs")
    lost.end(asked.child())
    with pytest.raises(ZygoteError):
        lost.run("probes.jobs:kills_its_parent", deadline=5)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZygoteError):
        lost.start("probes.jobs:hangs").child()
    assert len(os.listdir("/proc/self/fd")) == before
    lost.close()


def test_nobody_at_the_address_is_told() -> None:
    with pytest.raises(ZygoteError, match="no warm process"):
        client.connect("nobody-here")


def test_zygote_that_cannot_import_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    started = client.start(["no_such_module_at_all"])
    try:
        with pytest.raises(ZygoteError):
            client.connect(started.address).run("probes.jobs:pid")
    finally:
        started.close()
    assert "no_such_module_at_all" in capfd.readouterr().err


def test_arguments_that_are_no_plain_data_are_refused_and_leave_nothing_open(warm: Warm) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TypeError):
        warm.run("probes.jobs:answer", {"value": object()})
    assert len(os.listdir("/proc/self/fd")) == before
    assert warm.run("probes.jobs:answer", {"value": 4}).value == 4


def test_probes_leave_no_descriptor_open(warm: Warm) -> None:
    def use() -> None:
        for job in ("probes.jobs:pid", "probes.jobs:raises", "probes.jobs:kills_itself"):
            warm.run(job)
        warm.run("probes.jobs:hangs", deadline=0.05)
        warm.warm("probes.jobs:raises")

    use()
    before = len(os.listdir("/proc/self/fd"))
    use()
    assert len(os.listdir("/proc/self/fd")) == before


# What is asked for, and lives on.


def test_processes_are_asked_for_in_turn_and_taken_in_any_order(warm: Warm) -> None:
    asked = [warm.start("probes.jobs:hangs") for _ in range(4)]
    before = warm.run("probes.jobs:pid").value  # what is asked meanwhile is answered
    taken = {number: asked[number].child() for number in (2, 0, 3, 1)}
    pids = [taken[number].pid for number in range(4)]
    assert len({*pids, before}) == 5
    assert all(warm.end(child).status == -signal.SIGKILL for child in taken.values())


def test_many_may_be_asked_for_before_one_is_taken(warm: Warm) -> None:
    asked = [warm.start("probes.jobs:hangs") for _ in range(40)]
    taken = [starting.child() for starting in asked]
    assert len({child.pid for child in taken}) == 40
    for child in taken:
        warm.end(child)


def test_warm_process_that_did_not_answer_is_not_asked_again(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "START_DEADLINE", 0.0)
    with pytest.raises(ZygoteError, match="gone"):
        warm.run("probes.jobs:pid")
    monkeypatch.undo()
    with pytest.raises(ZygoteError, match="gone"):  # else the late answer would be taken for this one's
        warm.run("probes.jobs:pid")


def test_process_that_was_asked_for_is_taken_once(warm: Warm) -> None:
    starting = warm.start("probes.jobs:hangs")
    warm.end(starting.child())
    with pytest.raises(ZygoteError):
        starting.child()


# What a probe starts from.


def test_warm_process_has_torch_and_nothing_of_the_vendor_or_the_host(torch_warm: Warm) -> None:
    modules = {name.partition(".")[0] for name in torch_warm.run("probes.jobs:modules").value}
    assert "torch" in modules
    assert not modules & {"sglang", "sglang_reference", "sglang_simulated", "pytest", "_pytest", "hypothesis"}


def test_torch_in_a_probe_has_one_thread(torch_warm: Warm) -> None:
    made, _ = torch_warm.warm("probes.jobs:become", {"value": None})
    assert made is not None
    assert made.threads == 1
    assert torch_warm.run("probes.jobs:environment", {"name": "OMP_NUM_THREADS"}).value == "1"


@pytest.mark.parametrize("own", [None, "glibc.malloc.check=0"])
def test_probe_sees_the_controllers_own_value_of_what_only_the_start_needs(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own is None:
        monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    else:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    started = client.start(["probes.jobs"], {"PYTHONPATH": str(HERE.parent)})
    try:
        warm = client.connect(started.address)
        assert warm.run("probes.jobs:environment", {"name": "GLIBC_TUNABLES"}).value == own
    finally:
        started.close()
