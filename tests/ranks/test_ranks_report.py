"""Which rank's failure is told first."""

from __future__ import annotations

import pytest

from sglang_conformance.probes.result import Failure
from sglang_conformance.ranks.report import GroupReport, RankReport

CLOSED = "RuntimeError: [pair.cc:553] Connection closed by peer [127.0.0.1]:30337"
RESET = "writev [127.0.0.1]:41007: Connection reset by peer"


def raised(rank: int, message: str, order: int) -> RankReport:
    return RankReport(rank, failure=Failure("raised", "RuntimeError", message), order=order)


@pytest.mark.parametrize("message", [CLOSED, RESET])
@pytest.mark.parametrize(
    "other",
    [
        raised(1, "no such device", 1),
        RankReport(1, failure=Failure("killed", "Killed", "SIGSEGV"), order=1),
        RankReport(1, failure=Failure("exited", "Exited", "status 3"), order=1),
    ],
)
def test_what_ended_a_peer_is_told_before_the_connection_that_it_closed(message: str, other: RankReport) -> None:
    report = GroupReport((raised(0, message, 0), other), usable=False)
    assert [rank.rank for rank in report.failures] == [1, 0]


def test_closed_connection_is_told_first_where_nothing_else_failed() -> None:
    stopped = RankReport(1, failure=Failure("stopped", "Stopped", "still running"), order=1 << 16)
    report = GroupReport((stopped, raised(0, CLOSED, 0)), usable=False)
    assert [rank.rank for rank in report.failures] == [0, 1]
