"""Asserts about the steps of a plugin's story."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from sglang_conformance.certificate.model import Finding
from sglang_conformance.contract import tables
from sglang_conformance.hosts.story import Step, Story
from sglang_conformance.probes.result import Failure
from sglang_conformance.subject import EntryPoint, Subject
from sglang_conformance.suite import steps
from sglang_conformance.suite.expect import NotReached, Violation


def finding_of(action: Callable[[], Any]) -> Finding:
    with pytest.raises(Violation) as caught:
        action()
    return Finding(**caught.value.finding)


CHANGES: dict[str, Any] = {
    "environment": {},
    "modules": (),
    "stubs": (),
    "patches": (),
    "settings": {},
    "threads": (),
    "signals": (),
    "folder": "",
    "paths": (),
    "devices": (),
}


CONTRACT = tables.load("0.5.23")
POINT = EntryPoint("acme", "sglang.srt.platforms", "acme:activate", "sglang-acme-plugin", "1.0")
SUBJECT = Subject("acme", False, (POINT,), groups=CONTRACT.groups)
DTYPE = {"default dtype": ("torch.float32", "torch.float64")}
kept_shared_variables = partial(steps.kept_shared_variables, subject=SUBJECT, contract=CONTRACT)
patched_nothing = partial(steps.patched_nothing, own="acme")


def walked(**changes: Any) -> Step:
    return Step("import", {"where": "acme/__init__.py:1"}, None, {**CHANGES, **changes})


def test_step_that_changed_nothing_breaks_nothing() -> None:
    quiet = walked()
    steps.kept_shared_variables(quiet, SUBJECT, CONTRACT, call="c")
    steps.kept_variables(quiet, call="c")
    steps.patched_nothing(quiet, own="acme", call="c")
    steps.kept_defaults(quiet, call="c")
    steps.kept_settings(quiet, call="c")
    steps.imported_no_subsystem(quiet, call="c")
    steps.started_nothing(quiet, call="c")
    steps.started_no_device(quiet, call="c")


@pytest.mark.parametrize(
    ("rule", "changes", "seen"),
    [
        (kept_shared_variables, {"environment": {"RANK": (None, "0")}}, "RANK: None became '0'"),
        (kept_shared_variables, {"environment": {"SGLANG_PLATFORM": ("a", None)}}, "SGLANG_PLATFORM: 'a' became"),
        (steps.kept_variables, {"environment": {"ACME_READY": (None, "1")}}, "ACME_READY"),
        (patched_nothing, {"patches": ("torch.Tensor.to",)}, "replaced: torch.Tensor.to"),
        (patched_nothing, {"stubs": ("acme.ops", "flash_attn")}, "by hand: flash_attn"),
        (steps.kept_defaults, {"settings": DTYPE}, "the default dtype was torch.float32 and became torch.float64"),
        (steps.kept_settings, {"settings": {**DTYPE, "umask": ("'0022'", "'0077'")}}, "the umask was '0022' and"),
        (steps.kept_settings, {"paths": ("/opt/acme",)}, "put in front: /opt/acme"),
        (steps.imported_no_subsystem, {"modules": ("sglang.srt.managers.scheduler",)}, "sglang.srt.managers.scheduler"),
        (steps.started_nothing, {"threads": ("poller",)}, "threads: poller"),
        (steps.started_nothing, {"signals": ("SIGTERM",)}, "signal handlers: SIGTERM"),
        (steps.started_nothing, {"folder": "/"}, "working folder: /"),
        (steps.started_no_device, {"devices": ("cuda",)}, "torch.cuda"),
    ],
)
def test_step_that_changed_something_breaks_its_rule(rule: Any, changes: dict[str, Any], seen: str) -> None:
    finding = finding_of(lambda: rule(walked(**changes), call="import of acme"))
    assert seen in finding.seen
    assert finding.call == "import of acme"


@pytest.mark.parametrize(
    "name",
    [
        *("ACME_READY", "RANKING", "MYPATH", "HOMEPAGE", "WORLD"),
        *("PYTORCH_ACME_ALLOC_CONF", "SGLANG_ACME_USE_FUSED", "NCCL_ACME_PLUGIN"),
    ],
)
def test_variable_of_the_vendors_own_is_not_shared(name: str) -> None:
    assert not steps.is_shared(name, SUBJECT, CONTRACT)
    kept_shared_variables(walked(environment={name: (None, "1")}), call="c")


@pytest.mark.parametrize(
    "name",
    [
        *("RANK", "PATH", "HOME", "CUDA_VISIBLE_DEVICES", "ACME_VISIBLE_DEVICES", "SGLANG_PLUGINS", "NCCL_DEBUG"),
        "PYTORCH_CUDA_ALLOC_CONF",
    ],
)
def test_variable_that_others_read_is_shared(name: str) -> None:
    assert steps.is_shared(name, SUBJECT, CONTRACT)


@pytest.mark.parametrize(
    "module",
    ["sglang.srt.platforms.interface", "sglang.srt.plugins", "sglang.srt.environ", "sglang_acme", "sglang.srt"],
)
def test_modules_that_plugins_are_made_of_are_no_subsystem(module: str) -> None:
    steps.imported_no_subsystem(walked(modules=(module,)), call="c")


def test_step_that_was_not_begun_is_not_reached() -> None:
    failed = Step("import", failure=Failure("raised", "OSError", "no driver"))
    story = Story((failed,))
    with pytest.raises(NotReached, match="it failed at 'import'"):
        steps.came_through(story, "class", call="c")
    with pytest.raises(NotReached, match="it was not begun"):
        steps.came_through(Story(), "class", call="c")


def test_step_that_failed_is_a_violation_of_its_own_rule_only() -> None:
    frames = (("/opt/acme/acme/__init__.py", 3, "<module>"),)
    failed = Step("import", failure=Failure("raised", "OSError", "no driver", frames=frames, traceback="T"))
    finding = finding_of(lambda: steps.came_through(Story((failed,)), "import", call="import of acme"))
    assert (finding.expected, finding.seen) == ("no error", "OSError: no driver")
    assert (finding.where, finding.detail) == ("/opt/acme/acme/__init__.py:3", "T")
    with pytest.raises(NotReached, match="did not end"):
        steps.walked(Story((failed,)), "import")


def test_step_that_the_reference_does_not_cover_blames_nobody() -> None:
    bases = ("NotCovered", "ImportError")
    failed = Step("import", failure=Failure("raised", "NotCovered", "use --sglang=installed", bases))
    with pytest.raises(NotReached, match="use --sglang=installed"):
        steps.came_through(Story((failed,)), "import", call="c")


def test_package_is_that_of_the_entry_point() -> None:
    assert steps.package_of(SUBJECT) == "acme"
    assert steps.package_place(SUBJECT) == "entry_points.txt of sglang-acme-plugin"
