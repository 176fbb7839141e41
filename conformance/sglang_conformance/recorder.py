"""The main process's side of a run: collects observations, and makes the record, the closing summary and the status.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import platform as machine
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from . import __version__, collection
from .certificate import folder
from .certificate.model import Certificate, HostIdentity, Observation, PlatformIdentity, Run
from .certificate.summary import summary
from .certificate.text import Line
from .certificate.verdict import certify, exit_status
from .certificate.waivers import Waivers
from .config import DEFAULT_EXAMPLES, WORLD_SIZES, Config
from .digest import kit_digest
from .judge import Judge
from .subject import digest

ADDRESS = "sglang_conformance_address"
"""Under this name an xdist worker is told where the warm process is."""
FACTS = "sglang_conformance_facts"
"""Under this name it tells what it learnt of the platform."""

_MARKUP: Mapping[str, Mapping[str, bool]] = {
    "heading": {"bold": True},
    "good": {"green": True},
    "bad": {"red": True},
    "warning": {"yellow": True},
    "copy": {"cyan": True},
}
_WORDS = {
    "pass": ("passed", ".", "PASSED"),
    "fail": ("failed", "F", "FAILED"),
    "warning": ("warned", "w", "WARNING"),
    "unsupported": ("unsupported", "u", "UNSUPPORTED"),
    "blocked": ("blocked", "b", "BLOCKED"),
    "not-run": ("not run", "n", "NOT-RUN"),
    "host-defect": ("host defects", "h", "HOST-DEFECT"),
}


class Recorder:
    """Collects observations in the main process, and at the end writes the record and sets the exit status."""

    def __init__(self, config: pytest.Config, judge: Judge, known: Waivers | None, address: str) -> None:
        self._config = config
        self._judge = judge
        self._waivers = known
        self._address = address
        self._observations: list[Observation] = []
        self._learnt: dict[str, Any] = {}
        self._overruled: list[str] = []
        self._others_failed = False
        self._certificate: Certificate | None = None
        self._trouble = ""

    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker where the warm process is."""
        node.workerinput[ADDRESS] = self._address

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Have checks that share what takes long run in one worker."""
        from . import dealing

        return dealing.scheduler(config, log)

    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what an xdist worker learnt of the platform."""
        self._learnt.update(getattr(node, "workeroutput", {}).get(FACTS, {}))

    def pytest_report_header(self) -> str:
        """One line: who is judged, inside what."""
        config = self._judge.config
        kind = "built into SGLang" if config.subject.in_tree else config.subject.distribution
        ranks = f", ranks come to {config.ranks_at}" if config.ranks_at is not None else ""
        return (
            f"sglang-conformance {__version__}: platform {config.subject.name} ({kind}), "
            f"{config.host.kind} host, contract {config.host.release}{ranks}"
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a check observed; notice where another plugin tells it otherwise."""
        data = getattr(report, collection.ATTRIBUTE, None)
        if data is None:
            self._others_failed |= report.failed and not self._is_check(report.nodeid)
            return
        observation = Observation.from_json(data)
        self._observations.append(observation)
        failed = observation.outcome == "fail" and any(
            r.required for r in self._judge.requirements if r.id in observation.requirements
        )
        told = {"pass": "passed"}.get(observation.outcome, "failed" if failed else "skipped")
        if report.outcome != told:
            self._overruled.append(observation.check)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """A word and a letter for each outcome."""
        data = getattr(report, collection.ATTRIBUTE, None)
        if data is None:
            return None
        word = "warning" if data["outcome"] == "fail" and report.skipped else data["outcome"]
        return _WORDS[word]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Make the certificate, write it, and let it set the exit status where pytest has nothing worse to say."""
        if self._config.option.collectonly or not self._judge.config.host:
            return
        certificate = self._certify(interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
        self._certificate = certificate
        try:
            folder.write(certificate, self._judge.requirements, self._judge.config.certificate)
        except folder.FolderError as error:
            self._trouble = str(error)
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            return
        plain = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        if exitstatus in plain:
            session.exitstatus = int(self._others_failed) or exit_status(certificate)

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the closing summary."""
        if self._certificate is None:
            return
        terminalreporter.section("conformance")
        record = self._shown(self._judge.config.certificate)
        for line in summary(
            self._certificate, self._judge.requirements, record=record, width=terminalreporter._tw.fullwidth
        ):
            _print(terminalreporter, line)
        for waiver in self._waivers.expired if self._waivers else ():
            terminalreporter.write_line(
                f"expired     the waiver of {waiver.requirement} ({waiver.owner}, {waiver.link})", yellow=True
            )
        if self._trouble:
            terminalreporter.write_line(f"the record could not be written: {self._trouble}", red=True)

    def _is_check(self, nodeid: str) -> bool:
        return nodeid.startswith(f"{__package__}/suite/")

    def _shown(self, path: Path) -> str:
        try:
            return str(path.relative_to(self._config.invocation_params.dir))
        except ValueError:
            return str(path)

    def _certify(self, *, interrupted: bool) -> Certificate:
        ask = bool(self._observations) and not interrupted
        learnt = self._learnt or (self._judge.facts() if ask else self._judge.facts_so_far())
        profiles = tuple(learnt["profiles"])
        requirements = tuple(r for r in self._judge.requirements if r.profile in profiles)
        return certify(
            requirements,
            self._observations,
            self._run(profiles, learnt),
            self._waivers.valid if self._waivers else (),
            reproduce=self._judge.reproduce,
        )

    def _run(self, profiles: tuple[str, ...], learnt: Mapping[str, Any]) -> Run:
        facts = learnt["facts"]
        config = self._judge.config
        point = config.subject.entry_point
        return Run(
            kit_version=__version__,
            kit_digest=kit_digest(),
            host=HostIdentity(config.host.kind, config.host.release, config.host.digest),
            contract=config.host.release,
            platform=PlatformIdentity(
                name=config.subject.name,
                distribution=point.distribution if point else "",
                version=point.version if point else "",
                class_name=str(facts.get("class", "")),
                digest=digest(point.distribution) if point else "",
                in_tree=config.subject.in_tree,
            ),
            profiles=profiles,
            environment={**environment(config, facts), "cluster": self._judge.cluster()},
            reasons=tuple(self._reasons(profiles, learnt["checks"])),
        )

    def _reasons(self, profiles: Sequence[str], checks: Mapping[str, Sequence[str]]) -> Iterator[str]:
        """Why this run can never certify."""
        applying = {r.id for r in self._judge.requirements if r.profile in profiles}
        expected = {check for check, requirements in checks.items() if applying & set(requirements)}
        missing = expected - {o.check for o in self._observations}
        if missing:
            yield f"{len(missing)} of {len(expected)} checks did not report{self._narrowed_by()}"
        if self._overruled:
            yield f"another plugin changed the outcome of {len(self._overruled)} checks, {self._overruled[0]} first"
        config = self._judge.config
        if config.examples < DEFAULT_EXAMPLES:
            yield f"--examples={config.examples} is fewer than the {DEFAULT_EXAMPLES} of a certification"
        if config.world_sizes is not None and not set(WORLD_SIZES) <= set(config.world_sizes):
            asked, needed = (",".join(map(str, sizes)) for sizes in (config.world_sizes, WORLD_SIZES))
            yield f"--world-size={asked} leaves out sizes of a certification, {needed}"

    def _narrowed_by(self) -> str:
        option = self._config.option
        narrowing = {
            "-k": option.keyword,
            "-m": option.markexpr,
            "--deselect": option.deselect,
            "-x or --maxfail": option.maxfail,
            "--lf": getattr(option, "lf", False),
        }
        named = [name for name, value in narrowing.items() if value]
        return f" (narrowed by {', '.join(named)})" if named else ""


def environment(config: Config, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the run stood on, as plain data."""
    return {
        "python": machine.python_version(),
        "implementation": sys.implementation.name,
        "system": f"{machine.system()} {machine.release()}",
        "machine": machine.machine(),
        "packages": {name: version(name) for name in ("torch", "pytest", "hypothesis", "numpy")},
        "pytest_addopts": os.environ.get("PYTEST_ADDOPTS", ""),
        "options": {
            "examples": config.examples,
            "deadline": config.deadline,
            "world_sizes": list(config.world_sizes) if config.world_sizes else None,
        },
        "platform": dict(facts),
    }


def _print(terminalreporter: Any, line: Line) -> None:
    terminalreporter.write_line(line.text, **_MARKUP.get(line.role, {}))
