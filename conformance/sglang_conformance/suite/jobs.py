"""The names of the jobs that probes and ranks run for the suite: what is sent to them is a name, never code."""

from __future__ import annotations

_EXECUTE = "sglang_conformance.suite.execute"
_MEMBER = "sglang_conformance.suite.member"

ENTER_HOST = f"{_EXECUTE}:enter_host"
RESOLVE_PLATFORM = f"{_EXECUTE}:resolve_platform"
FORKS_BADLY = f"{_EXECUTE}:forks_badly"
RUN = f"{_EXECUTE}:run"
RESOLVE_AND_RUN = f"{_EXECUTE}:resolve_and_run"
TELL_STORY = "sglang_conformance.hosts.story:tell"
LAUNCH = "sglang_conformance.journey.launching:launch"

STAND_READY = f"{_MEMBER}:stand_ready"
STAND_READY_TO_SERVE = f"{_MEMBER}:stand_ready_to_serve"
COUNT_DEVICES = f"{_MEMBER}:devices"
PREPARE_RANK = f"{_MEMBER}:prepare"
RUN_ON_RANK = f"{_MEMBER}:run"
