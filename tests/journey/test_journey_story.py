"""What is held against a trace, and how a journey is told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from journey.stories import (
    BACKEND,
    HOOK,
    LOADED,
    TARGET,
    call,
    edited,
    journey,
    launcher,
    made,
    moment,
    served,
    stopped,
    without,
    worker,
)
from sglang_conformance.contract import tables
from sglang_conformance.contract.index import Resolved
from sglang_conformance.journey import text
from sglang_conformance.journey.expected import Finding, alive, findings, not_for_the_launcher
from sglang_conformance.journey.moments import MOMENTS
from sglang_conformance.journey.order import COUNTS, ORDERS, holds
from sglang_conformance.journey.rows import named, rows, short
from sglang_conformance.journey.story import Failure, Journey, first_failure
from sglang_conformance.journey.trace import (
    ARGUMENTS,
    ATTENTION,
    DEVICE,
    END,
    FAILED,
    GRAPHS,
    GROUPS,
    HOOKS,
    IMPORTED,
    MODEL,
    PLUGINS,
    POOLS,
    RESOLVED,
    TOKEN,
    Event,
    Place,
    Role,
    Tally,
    Trace,
)

NEW, OLD = "0.5.23", "0.5.11"


def found(*traces: Trace, release: str = NEW, out_of_tree: bool = True, device: str = "acme") -> list[Finding]:
    return list(findings(traces, tables.load(release), out_of_tree=out_of_tree, device=device))


def told(*traces: Trace, release: str = NEW, out_of_tree: bool = True, device: str = "acme") -> list[tuple[str, str]]:
    return [(f.rule, f.member) for f in found(*traces, release=release, out_of_tree=out_of_tree, device=device)]


RIGHT = (launcher(), worker(0), worker(1))


@pytest.mark.parametrize("newer", [True, False])
def test_a_start_as_the_release_makes_it_has_nothing_against_it(newer: bool) -> None:
    release = NEW if newer else OLD
    start = edited(launcher(), "apply_server_args_defaults", by=Place(ARGUMENT_FILES[newer], 5, "core"))
    assert found(start, worker(0, newer=newer), worker(1, newer=newer), release=release) == []


ARGUMENT_FILES = {True: "srt/arg_groups/platform_hook.py", False: "srt/server_args.py"}


def test_every_fact_of_the_tables_is_of_a_member_that_some_release_calls() -> None:
    names = {member.name for release in tables.releases() for member in tables.load(release).called()}
    asked = {name for order in ORDERS for kind, name in (order.first, order.then) if kind == "call"}
    assert asked | {name for count in COUNTS for name in count.members} <= names


def test_the_moments_are_told_by_functions_that_every_release_has() -> None:
    known = tables.releases()
    for release, index in zip(known, tables.load_indexes(*known), strict=True):
        told_in = [moment for moment in MOMENTS if moment.holds(release)]
        # From 0.5.20 on ServerArgs is made by a function, so that its methods cannot be told from the source.
        read = [m for m in told_in if m.name != ARGUMENTS or holds(release, "", "0.5.20")]
        absent = [m for m in read if not isinstance(index.resolve(f"{m.module}.{m.function}"), Resolved)]
        assert absent == [], release
        assert {m.name for m in told_in} >= {PLUGINS, DEVICE, GROUPS, MODEL, POOLS, ATTENTION, GRAPHS}


def test_the_order_of_one_side_of_a_change_is_wrong_on_the_other() -> None:
    assert ("order", DEVICE) in told(worker(0, newer=True), release=OLD)
    assert ("order", "init_backend") in told(worker(0, newer=False), release=NEW)


@pytest.mark.parametrize("release", ["0.5.11", "0.5.16", "0.5.22", "0.5.23"])
def test_what_only_workers_are_asked_is_read_off_the_release(release: str) -> None:
    only = not_for_the_launcher(tables.load(release))
    assert {"init_backend", "get_graph_runner_cls", "get_paged_allocator_cls"} <= only
    assert not only & {"apply_server_args_defaults", "get_device_total_memory", "get_device", "get_compile_backend"}


def test_a_device_that_is_started_in_the_launching_process_is_told_with_the_line() -> None:
    start = launcher(call("get_device", "srt/utils/common.py", call("init_backend", "acme/platform.py")))
    (finding,) = found(start)
    assert (finding.rule, finding.member, finding.role, finding.fault) == (
        "launcher",
        "init_backend",
        "launcher",
        "platform",
    )
    assert finding.caller.startswith("acme/platform.py:")
    (core,) = found(launcher(call("init_backend")))
    assert core.fault == "host"


def test_a_platform_that_is_used_before_the_plugins_are_loaded_is_told() -> None:
    hasty = made(Role("worker", 0), [call("get_device", "acme/hooks.py"), LOADED])
    assert told(hasty) == [("early", "get_device")]
    assert told(made(Role("worker", 0), [call("is_out_of_tree", "acme/hooks.py"), LOADED])) == []
    assert told(made(Role("worker", 0), [call("get_device", "srt/utils/common.py"), LOADED])) == []
    assert told(made(Role("worker", 0), [moment(PLUGINS, call("get_device", "acme/hooks.py"))])) == [
        ("early", "get_device")
    ]


def test_a_plugin_may_ask_which_platform_it_is_when_it_is_run_but_not_when_it_is_imported() -> None:
    by = Place("acme/hooks.py", 3, "vendor")
    loading = made(Role("worker", 0), [moment(PLUGINS, moment(RESOLVED))])
    assert told(edited(loading, RESOLVED, by=by)) == []
    assert told(edited(loading, RESOLVED, by=by, detail=IMPORTED)) == [("early", RESOLVED)]
    before = made(Role("worker", 0), [moment(RESOLVED), LOADED])
    assert told(edited(before, RESOLVED, by=by)) == [("early", RESOLVED)]
    assert told(before) == []


def test_what_the_core_calls_too_seldom_or_too_often_is_told() -> None:
    assert told(without(worker(0), "post_load_model")) == [("count", "post_load_model")]
    assert told(without(worker(0), "init_backend")) == [("count", "init_backend")]
    again = made(Role("worker", 0), [*[LOADED], *[call("init_backend")] * 2, moment(MODEL)])
    twice = [finding for finding in found(again) if finding.rule == "count"]
    assert [finding.what for finding in twice] == ["the core called init_backend twice, not 1"]
    assert told(without(launcher(), "apply_server_args_defaults")) == [("count", "apply_server_args_defaults")]
    assert told(without(worker(0), "get_kv_pool_cls")) == [("count", "get_kv_pool_cls")]


def test_what_was_only_counted_counts() -> None:
    tally = Tally("call", "init_backend", Place("srt/model_executor/model_runner.py", 1, "core"), 4, 0.1)
    (finding,) = found(replace(worker(0), tallies=(tally,)))
    assert finding.what == "the core called init_backend 5 times, not 1"


def test_what_holds_for_devices_of_their_own_is_not_asked_of_others() -> None:
    seen = without(worker(0), "get_device_total_memory", "get_device", "get_current_memory_usage")
    assert told(seen) == [("count", "get_device_total_memory"), ("count", "get_current_memory_usage")]
    assert told(seen, device="cuda") == []
    builtin = without(seen, "init_backend", "get_kv_pool_cls")
    assert told(builtin, out_of_tree=False, device="cuda") == []


def test_a_process_that_did_not_come_so_far_is_asked_for_nothing_that_comes_later() -> None:
    early = stopped(worker(0), GROUPS, error="RuntimeError: no network")
    assert told(early) == []
    assert told(made(Role("worker", 0), [])) == []


def test_what_comes_too_early_is_told_with_what_should_precede_it() -> None:
    steps = (
        moment(DEVICE, *BACKEND[True], moment(GROUPS)),
        call("init_backend"),
        call("get_kv_pool_cls", "srt/mem_cache/kv_cache_configurator.py"),
        moment(POOLS),
        moment(MODEL, call("post_load_model")),
    )
    wrong = [f for f in found(worker(0, steps=steps)) if f.rule == "order"]
    assert {f.member for f in wrong} == {POOLS, "get_kv_pool_cls"}
    assert all(f.why.startswith("0.5.") and ".py" in f.why for f in wrong)


def test_a_hook_on_the_model_runner_has_the_backend_made_when_the_plugins_are_loaded() -> None:
    hooked = moment(
        PLUGINS, moment(HOOKS, (f"applied {TARGET}", "srt/plugins/hook_registry.py", (call("init_backend"),)))
    )
    assert told(made(Role("worker", 0), [hooked, moment(DEVICE), moment(MODEL, call("post_load_model"))])) == []
    (finding,) = found(made(Role("launcher"), [hooked]))
    assert (finding.rule, finding.fault) == ("launcher", "host")
    assert finding.what.endswith(f"while {TARGET} was imported to be hooked")


def test_a_call_from_where_the_release_has_none_is_the_hosts_own() -> None:
    by = Place("srt/layers/elsewhere.py", 4, "core")
    (finding,) = found(edited(worker(0), "get_kv_pool_cls", by=by))
    assert (finding.rule, finding.fault, finding.caller) == ("caller", "host", "srt/layers/elsewhere.py:4")
    private = Place("srt/mem_cache/_pools.py", 4, "core")
    assert found(edited(worker(0), "get_kv_pool_cls", by=private)) == []
    # The core hands this one on, so that other lines call it.
    assert found(edited(launcher(), "apply_server_args_defaults", by=by)) == []


def test_a_call_that_never_came_back_is_told_where_it_stands() -> None:
    hung = [f for f in found(stopped(worker(0), "get_device")) if f.rule == "unfinished"]
    assert [(f.member, f.caller.partition(":")[0]) for f in hung] == [("get_device", "acme/platform.py")]


def test_hooks_are_to_be_in_every_process_that_loads_plugins() -> None:
    bare = without(worker(1), TARGET)
    (missing,) = found(launcher(), worker(0), bare)
    assert (missing.rule, missing.member, missing.role) == ("hooks", TARGET, "worker 1")
    failed = edited(worker(0), TARGET, error="AttributeError: no such method")
    (wrong,) = found(failed)
    assert wrong.what.endswith("could not be applied: AttributeError: no such method")


def test_whether_a_hook_ran_is_told_with_where_and_when() -> None:
    (hook,) = alive(RIGHT)
    assert (hook.target, hook.hook, hook.times) == (TARGET, HOOK, 2)
    assert hook.applied == ("launcher", "worker 0", "worker 1")
    assert hook.ran == ("worker 0", "worker 1")
    assert hook.first is not None
    (idle,) = alive([launcher()])
    assert (idle.ran, idle.times, idle.first) == ((), 0, None)
    (broken,) = alive([edited(launcher(), TARGET, error="KeyError")])
    assert broken.applied == ()


def test_the_first_failure_is_where_the_error_was_born() -> None:
    error = "RuntimeError: the driver says no"
    waiting = stopped(worker(0), GROUPS)
    failure = first_failure([launcher(), waiting, stopped(worker(1), "get_device", error=error)])
    assert failure is not None
    assert (failure.member, failure.role, failure.fault) == ("get_device", "worker 1", "platform")
    assert failure.what == f"get_device() raised {error}"
    assert failure.caller.startswith("acme/platform.py:")


def test_an_error_that_the_core_caught_is_no_failure() -> None:
    caught = edited(worker(0), "get_device", error="NotImplementedError")
    assert first_failure([caught]) is None
    later = replace(caught, events=caught.events[:-1])
    failure = first_failure([without(later, "get_device")])
    assert failure is not None
    assert failure.what == 'the process ended after "first token"'


def test_an_error_of_the_core_is_told_with_what_it_had_asked_last() -> None:
    wrong = without(worker(0), END, TOKEN, ATTENTION, GRAPHS, "get_graph_runner_cls")
    answer = edited(wrong, "get_kv_pool_cls", result="class Pool")
    error = "TypeError: Acme.get_kv_pool_cls(kind='mha') returned Pool; expected a subclass of MHATokenToKVPool"
    last = max(event.until for event in answer.events)
    dies = Event(900, "moment", FAILED, last, Place("acme/pool.py", 3, "vendor"), seconds=0.0, error=error)
    failure = first_failure([replace(answer, events=(*answer.events, dies))])
    assert failure is not None
    assert (failure.what, failure.member, failure.cause) == (error, "get_kv_pool_cls", "acme/pool.py:3")
    assert failure.why == "the platform was last asked get_kv_pool_cls() = class Pool"
    mute = replace(dies, error="KeyError: 'x'")
    failure = first_failure([replace(answer, events=(*answer.events, mute))])
    assert failure is not None
    assert (failure.member, failure.fault) == ("", "unknown")


def test_the_line_of_an_error_is_told_beside_the_member_that_raised_it() -> None:
    error = "RuntimeError: no"
    raised = stopped(worker(0), "get_device", error=error)
    dies = Event(900, "moment", FAILED, 9.0, Place("acme/deep.py", 7, "vendor"), seconds=0.0, error=error)
    failure = first_failure([replace(raised, events=(*raised.events, dies))])
    assert failure is not None
    assert (failure.member, failure.cause) == ("get_device", "acme/deep.py:7")


def test_a_process_that_hung_or_vanished_is_told_by_what_it_was_in() -> None:
    hung = first_failure([launcher(), stopped(worker(0), "get_device"), stopped(worker(1), GROUPS)])
    assert hung is not None
    assert (hung.member, hung.what) == ("get_device", "get_device() did not return")
    gone = first_failure([launcher(), stopped(worker(0), GROUPS)])
    assert gone is not None
    assert (gone.member, gone.what) == (GROUPS, f'the process ended within "{GROUPS}"')
    mute = first_failure([made(Role("worker", 0), [])])
    assert mute is not None
    assert "before anything was seen" in mute.what
    assert first_failure(RIGHT) is None


def test_processes_share_their_rows_as_long_as_they_do_the_same() -> None:
    both = rows(RIGHT)
    assert {row.who for row in both} == {"launcher", "workers 0, 1"}
    apart = rows((launcher(), worker(0), stopped(worker(1), "get_current_memory_usage", error="RuntimeError: no")))
    who = [row.who for row in apart if row.kind == "call"]
    assert who == ["launcher", *["workers 0, 1"] * 4, "worker 0", "worker 1", *["worker 0"] * 3]
    assert [row.at for row in apart] == sorted(row.at for row in apart)
    assert named([worker(rank) for rank in range(4)]) == "workers 0-3"


def test_an_error_is_told_once_where_it_was_born() -> None:
    failed = rows([stopped(worker(0), "get_device", error="RuntimeError: no")])
    assert [(row.text, row.told) for row in failed if row.error] == [
        ("get_device_total_memory()", False),
        ("get_device()", True),
    ]


def test_what_repeats_is_told_once_and_questions_are_counted() -> None:
    repeated = made(Role("worker", 0), [call("is_cuda", "srt/a.py"), *[call("get_device", "srt/a.py")] * 3, LOADED])
    place = Place("srt/a.py", 1, "core")
    events = tuple(replace(event, by=place) if event.kind == "call" else event for event in repeated.events)
    leg = served(traces=(replace(repeated, events=events),))
    lines = list(text.told(leg))
    assert sum("get_device() 3x" in line for line in lines) == 1
    assert sum("is_cuda 1x" in line for line in lines) == 1
    assert not any("is_cuda()" in line for line in lines)


def test_a_hooks_target_is_short_in_a_row() -> None:
    assert short(TARGET) == "ModelRunner.load_model"
    assert short("sglang.srt.distributed.parallel_state.all_reduce") == "all_reduce"


GOOD = journey(served(), served("deepseek, PP 2", not_run="sgl-kernel is not installed", traces=()))
BROKEN = journey(
    served(),
    served(
        "mla",
        tokens=0,
        right=0,
        sample=(),
        margin=None,
        seconds=None,
        first_token=None,
        traces=(
            launcher(call("init_backend", "acme/x.py")),
            stopped(worker(0), "get_device", error="OSError: \x1b[31m!"),
        ),
        findings=tuple(found(launcher(call("init_backend", "acme/x.py")))),
        failure=Failure("get_device() raised OSError", member="get_device", role="worker 0", caller="a.py:3", at=1.25),
    ),
)


def test_a_record_reads_back_unchanged() -> None:
    for record in (GOOD, BROKEN):
        assert Journey.from_json(json.loads(record.dumps())) == record
    with pytest.raises(ValueError, match="schema"):
        Journey.from_json({"schema": "sglang-conformance/bench/1"})


def test_a_journey_is_good_when_all_that_ran_was_right() -> None:
    assert GOOD.good
    assert not BROKEN.good
    assert not journey().good
    assert not journey(served(right=63)).good
    assert BROKEN.failed is BROKEN.legs[1]


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("record", [GOOD, BROKEN])
def test_every_line_fits_the_terminal(record: Journey, width: int) -> None:
    lines = list(text.lines(record, width))
    assert all(line == line.rstrip() and line.isprintable() for line in lines)
    widest = max(lines, key=len)
    # Beside a deep step of the story there is always room for some words.
    assert len(widest) <= max(width, 66), widest


def test_the_story_says_when_who_what_and_how_long() -> None:
    lines = list(text.lines(GOOD))
    (init,) = [line for line in lines if "init_backend" in line]
    assert init.split() == ["1.08", "s", "init_backend()", "by", "srt/model_executor/model_runner.py:17", "10.0", "ms"]
    assert any(line.startswith("   0.97 s  workers 0, 1 platform resolved") for line in lines)
    assert any("hook  " in line and HOOK in line for line in lines)
    assert (
        "  served  4 requests, 64 tokens, all right; logits differ by 0.031 of what is allowed; 206 tokens/s;" in lines
    )
    assert lines[-1] == "acme: served 1 of 2 legs, 64 tokens, all right"
    assert any("not run: sgl-kernel is not installed" in line for line in lines)


def test_a_failure_is_told_with_member_role_and_line_and_closes_the_story() -> None:
    lines = list(text.lines(BROKEN))
    assert "  FAILED  get_device() raised OSError, in worker 0, 1.25 s after the start" in lines
    assert "          member  get_device" in lines
    assert "          called  by a.py:3" in lines
    assert any("NOT AS THE CONTRACT SAYS (1)" in line for line in lines)
    assert lines[-1] == "acme: served 1 of 2 legs; mla failed: get_device() raised OSError"
    assert list(text.lines(journey(served(right=60))))[-1].endswith("failed: 4 of 64 tokens are wrong")


@pytest.mark.parametrize(("seconds", "shown"), [(2.5, "2.50 s"), (0.25, "250 ms"), (0.0123, "12.3 ms")])
def test_a_time_has_the_unit_that_suits_it(seconds: float, shown: str) -> None:
    assert text.lasted(seconds) == shown


def test_hooks_that_ran_nowhere_or_could_not_be_applied_are_told() -> None:
    idle = worker(0)
    idle = replace(idle, events=tuple(event for event in idle.events if event.kind != "hook"))
    assert f"{HOOK} on {TARGET}: did not run" in words(idle)
    assert f"{HOOK} on {TARGET}: COULD NOT BE APPLIED" in words(edited(idle, TARGET, error="KeyError: 'x'"))


def words(trace: Trace) -> str:
    return " ".join(" ".join(text.told(served(traces=(trace,)))).split())
