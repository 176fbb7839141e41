"""What came of a server that was started as SGLang starts it: looked at by several checks.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...blame import stack_in, vendor_line
from ...contract.model import Contract
from ...hosts.serving import NotServed
from ...journey.expected import Finding
from ...journey.launched import Launched, Start, likeliest
from ...journey.order import POOL_MEMBERS
from ...journey.trace import Trace
from ...probes.result import readable
from .. import expect

_OWN_ANSWERS = frozenset({"get_device_total_memory", "get_current_memory_usage", *POOL_MEMBERS})
"""Members that a plugin may do without: with a hook on what asks them, it answers in the core's place."""


def first(launched: Launched) -> Start:
    """The first start, however far it came.

    NotReached where none was made, NotCovered where the host cannot, NotServed where it lacks something here.
    """
    if launched.obstacle:
        raise expect.NotReached(launched.obstacle)
    if launched.unserved:
        raise NotServed(launched.unserved)
    if launched.uncovered:
        raise expect.NotCovered(launched.uncovered)
    return launched.starts[0] if launched.starts else Start()


def traces(launched: Launched) -> Sequence[Trace]:
    """What its processes did, in each of which a platform was resolved; NotReached where no worker came so far."""
    first(launched)
    if not any(trace.platform and trace.role.kind != "launcher" for trace in launched.traces):
        raise expect.NotReached("no worker's process came as far as to resolve a platform")
    return launched.traces


def served(launched: Launched, number: int) -> Start:
    """A start that served; NotReached where it did not, which another requirement reports."""
    first(launched)
    if number >= len(launched.starts) or not launched.starts[number].tokens:
        raise expect.NotReached("the server does not serve")
    return launched.starts[number]


def none_of(findings: Iterable[Finding], expected: str) -> None:
    """Fail with the first finding; where only SGLang's own doing was found, say that."""
    found = sorted(findings, key=lambda finding: finding.fault == "host")
    if not found:
        return
    finding = found[0]
    if finding.fault == "host":
        raise expect.HostDefect(f"{finding.role}: {finding.what} ({finding.why})")
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    expect.fail(
        expected=expected,
        seen=f"{finding.what}{more}",
        call=f"starting a server: {finding.role}",
        where=finding.caller,
        cause=finding.why,
        detail="\n".join(f"{each.role}: {each.what} {each.caller}".rstrip() for each in found[1:]),
    )


def tell(launched: Launched, call: str = "starting a server") -> None:
    """Fail with where it failed first, and the member at fault."""
    failure = launched.failure
    if failure is None:
        expect.fail(expected="a server that serves", seen="none was started", call=call)
    member = f"look at {failure.member}" if failure.member and failure.member not in failure.what else ""
    expect.fail(
        expected="a server that serves",
        seen=failure.what,
        call=f"{call}: {failure.role}" if failure.role else call,
        where=failure.cause or vendor_line(stack_in(launched.output)) or failure.caller,
        cause="; ".join(filter(None, (failure.why, member))),
        detail=readable("\n".join(filter(None, (launched.error, launched.output.strip())))),
    )


def are_right(launched: Launched, start: Start) -> None:
    """Fail where a token is not the oracle's."""
    right = likeliest(launched.leg, len(start.tokens[0]))
    for number, (seen, true) in enumerate(zip(start.tokens, right, strict=True)):
        expect.equal(
            list(seen),
            list(true),
            call=f"serving {launched.leg} in a process of its own: the tokens for prompt {number}",
            cause="in one process the same model is served right (JOUR-007): look at what is set up in some processes "
            "only",
        )


def hooks_told(launched: Launched) -> str:
    """Which hooks ran, and where."""
    from ...journey.expected import alive

    hooks = alive(launched.of_start(0))
    return "; ".join(f"{hook.hook}: {', '.join(hook.ran) or 'did not run'}" for hook in hooks)


def answered_by_hooks(launched: Launched, contract: Contract) -> frozenset[str]:
    """The members that the core does not come to as a hook stands before it, in a module that asks them."""
    around = {
        event.name
        for trace in launched.traces
        for event in trace.of("applied")
        if any(hook.startswith(("AROUND", "REPLACE")) for hook in event.arguments)
    }
    found = set()
    for member in contract.called():
        modules = {f"sglang.{site.path.removesuffix('.py').replace('/', '.')}." for site in member.calls}
        if member.name in _OWN_ANSWERS and any(target.startswith(tuple(modules)) for target in around):
            found.add(member.name)
    return frozenset(found)
