"""JOUR: a server is started as SGLang starts it, by a launching process that spawns its workers.

What came of it is recorded once in a run, and looked at here: the calls of each process, what was served, what is left.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..contract.model import Contract
from ..journey.expected import Finding
from ..journey.launched import Launched
from . import expect
from .aids import started
from .declare import in_controller, requirement


@requirement("JOUR-050")
@in_controller
def test_nothing_is_used_before_the_plugins_are_loaded(launched: Launched, contract: Contract) -> None:
    expected = "the platform used after all plugins are loaded and their hooks applied"
    started.none_of(_of_rules(launched, contract, ("early",)), expected)


@requirement("JOUR-051")
@in_controller
def test_hooks_are_in_every_process(launched: Launched, contract: Contract) -> str:
    started.none_of(
        _of_rules(launched, contract, ("hooks",)), "the same hooks in the launching process and each worker"
    )
    return started.hooks_told(launched)


@requirement("JOUR-052")
@in_controller
def test_every_process_has_the_same_platform(launched: Launched) -> str:
    traces = started.traces(launched)
    first, *others = [trace for trace in traces if trace.platform]
    for trace in others:
        expect.equal(
            trace.platform,
            first.platform,
            call=f"the platform that {trace.role} resolves, and {first.role}",
            cause="each process calls activate() for itself: it must answer the same in all of them",
        )
    return f"{first.platform} in {len(others) + 1} processes"


@requirement("JOUR-053")
@in_controller
def test_launching_process_starts_no_device(launched: Launched, contract: Contract) -> None:
    expected = "no device started, and nothing asked that only workers are"
    started.none_of(_of_rules(launched, contract, ("launcher",)), expected)
    expect.equal(
        list(launched.devices),
        [],
        call="launching a server; torch's device modules that the launching process has started",
        cause="it only spawns the workers; what it starts holds memory of a device for as long as the server lives",
    )


@requirement("JOUR-054")
@in_controller
def test_server_comes_up_in_processes_of_its_own(launched: Launched) -> str:
    first = started.first(launched)
    if not first.tokens:
        started.tell(launched)
    # The real SGLang kills its workers (0.5.11 and 0.5.23, srt/entrypoints/engine.py, shutdown): how they would end is
    # not seen there, only that none did before.
    end = None if launched.installed else 0
    expect.equal(
        list(first.exits),
        [end] * len(first.exits),
        call="ending the server; the exit codes of its workers",
        cause="a worker is to be there until the server is ended"
        if launched.installed
        else "a worker is killed that has not ended by itself some seconds after the last request",
    )
    return f"{launched.leg}: {launched.leg.size} worker{'s'[: launched.leg.size != 1]}"


@requirement("JOUR-055")
@in_controller
def test_spawned_workers_give_the_likeliest_tokens(launched: Launched) -> None:
    started.are_right(launched, started.served(launched, 0))


@requirement("JOUR-056")
@in_controller
def test_the_core_comes_in_its_order(launched: Launched, contract: Contract) -> None:
    started.served(launched, 0)
    found = _of_rules(launched, contract, ("count", "order"))
    answered = started.answered_by_hooks(launched, contract)
    ours = [each for each in found if each.member not in answered]
    started.none_of(ours, "the core's calls in SGLang's order, and as often")


@requirement("JOUR-057")
@in_controller
def test_a_second_start_serves_the_same(launched: Launched) -> None:
    before = started.served(launched, 0)
    if len(launched.starts) < 2 or not launched.starts[1].tokens:
        started.tell(launched, "starting a server for the second time in one launching process")
    for number, (one, other) in enumerate(zip(before.tokens, launched.starts[1].tokens, strict=True)):
        expect.equal(list(other), list(one), call=f"the tokens for prompt {number}, from the second server started")


@requirement("JOUR-058")
@in_controller
def test_nothing_is_left_of_a_server(launched: Launched) -> None:
    started.served(launched, 0)
    for kind, found in launched.left.items():
        expect.equal(
            list(found),
            [],
            call=f"ending the server; {kind} that were not there before",
            cause="what a process starts or makes, it must end or remove when it ends",
        )


@requirement("ARG-016")
@in_controller
def test_arguments_stand_in_the_workers_as_they_were_settled(launched: Launched) -> None:
    first = started.served(launched, 0)
    workers = [launched.workers[pid] for pid in first.pids if pid in launched.workers]
    if not workers:
        raise expect.NotReached("no worker said what its arguments are")
    for seen in workers:
        for name, value in first.arguments.items():
            asked = ", as the user asked" if first.asked.get(name) == value else ""
            expect.that(
                name not in seen or seen[name] == value,
                expected=f"{name}={value!r}{asked}",
                seen=f"{name}={seen.get(name)!r}",
                call="the server's arguments in a worker's process, as it ended, or was killed",
                cause="the launching process settles them (apply_server_args_defaults), and each worker goes by "
                "that: one that changes them is alone with it",
            )


def _of_rules(launched: Launched, contract: Contract, rules: Collection[str]) -> Sequence[Finding]:
    started.traces(launched)
    return [finding for finding in launched.findings(contract) if finding.rule in rules]
