"""A run under pytest: wake the kit, collect the suite, judge each check, write the record, set the exit status.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import platform as machine
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from . import __version__, collection
from .certificate import folder, waivers
from .certificate.model import Certificate, HostIdentity, Observation, Outcome, PlatformIdentity, Run
from .certificate.summary import summary
from .certificate.text import Line, failure_text
from .certificate.verdict import certify, exit_status
from .config import Config, OptionError, resolve
from .digest import kit_digest
from .probes import client
from .requirements import loader
from .requirements.model import PROFILES, Requirement
from .session import Session, preloaded
from .subject import digest
from .suite.areas import all_checks
from .suite.declare import Check

_ADDRESS = "sglang_conformance_address"
_FACTS = "sglang_conformance_facts"
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


def wake(config: pytest.Config) -> None:
    """Resolve the options, start the warm process, and register what judges and records the run.

    Raises pytest.UsageError, with one clear line, where an option cannot be used.
    """
    if _runs_its_own_tests(config):
        return
    worker = getattr(config, "workerinput", None)
    try:
        options = _options(config)
        catalogue = loader.load()
        known = _prepare(config, options, catalogue) if worker is None else None
    except (OptionError, folder.FolderError, waivers.WaiverError, loader.CatalogueError) as error:
        raise pytest.UsageError(str(error)) from error
    address = worker[_ADDRESS] if worker else _start(config, options)
    _take_over_arguments(config)
    judge = Judge(options, address, catalogue)
    config.add_cleanup(judge.close)
    config.stash[collection.JUDGE] = judge
    config.pluginmanager.register(Collection(), "sglang_conformance_collection")
    if worker is None:
        config.pluginmanager.register(Recorder(config, judge, known, address), "sglang_conformance_recorder")
    else:
        config.pluginmanager.register(Worker(judge), "sglang_conformance_worker")


def _prepare(config: pytest.Config, options: Config, catalogue: loader.Catalogue) -> waivers.Waivers | None:
    """Read the waivers, and see at the start, not after a long run, that the record can be written."""
    known = waivers.load(options.waivers, today=date.today(), known=catalogue) if options.waivers else None
    if not config.option.collectonly:
        folder.prepare(options.certificate)
    return known


def _start(config: pytest.Config, options: Config) -> str:
    """Start the warm process, to be ended with pytest; its address."""
    if config.option.collectonly:
        return ""
    zygote = client.start(preloaded(in_tree=options.subject.in_tree))
    config.add_cleanup(zygote.close)
    return zygote.address


def _options(config: pytest.Config) -> Config:
    get = config.getoption
    return resolve(
        platform=get("--platform"),
        sglang=get("--sglang"),
        contract=get("--contract"),
        profile=get("--profile"),
        waivers=get("--waivers"),
        certificate=get("--certificate"),
        examples=get("--examples"),
        deadline=get("--deadline"),
        folder=config.invocation_params.dir,
    )


def _runs_its_own_tests(config: pytest.Config) -> bool:
    """Whether the command line names paths, none of them the suite's: a project's own tests, run as pytest would.

    Paths that come from elsewhere (``PYTEST_ADDOPTS``, ``addopts``) narrow a certification, and end it incomplete.
    """
    paths = [str(arg) for arg in config.args if config.args_source == pytest.Config.ArgsSource.ARGS]
    asked = {str(arg) for arg in config.invocation_params.args}
    suite = (str(collection.SUITE), f"{__package__}.suite", f"{__package__}/suite")
    return bool(paths) and all(path in asked and not path.startswith(suite) for path in paths)


def _take_over_arguments(config: pytest.Config) -> None:
    """With no path given, run the suite and nothing else, whatever a project's ``testpaths`` say."""
    if config.args_source != pytest.Config.ArgsSource.ARGS:
        config.args[:] = collection.suite_arguments()
        config.option.tbstyle = "no"  # the closing summary tells failures, each once, the root first
        config.option.reportchars = ""


class Judge:
    """What the run's items ask: which checks apply, and what came of one."""

    def __init__(self, config: Config, address: str, catalogue: loader.Catalogue) -> None:
        self.config = config
        self.catalogue = catalogue
        self.session = Session(config, catalogue, address)

    @cached_property
    def profiles(self) -> tuple[str, ...]:
        """The profiles to certify: those asked for, or those that the platform declares."""
        if self.config.profiles is not None:
            return self.config.profiles
        return tuple(p for p in PROFILES if p != "graphs" or self.session.facts.get("graphs", True))

    @cached_property
    def requirements(self) -> tuple[Requirement, ...]:
        """The requirements that apply, whatever the profile: collecting must not wait for the platform."""
        subject = self.config.subject
        return self.catalogue.applying(
            self.config.host.release, in_tree=subject.in_tree, profiles=self.config.profiles or PROFILES
        )

    @property
    def certified(self) -> tuple[Requirement, ...]:
        """The requirements of the profiles to certify."""
        return tuple(r for r in self.requirements if r.profile in self.profiles)

    def applies(self, check: Check) -> bool:
        """Whether any requirement that the check decides applies to this run."""
        return any(r.id in check.requirements for r in self.requirements)

    def decides(self, check: Check) -> bool:
        """Whether a failure of the check breaks a required requirement."""
        return any(r.required for r in self.requirements if r.id in check.requirements)

    def judge(self, check: Check) -> Observation:
        """Run a check."""
        mine = tuple(r.id for r in self.requirements if r.id in check.requirements)
        return replace(self.session.judge(check), requirements=mine)

    def word(self, observation: Observation) -> str:
        """The outcome as pytest prints it: a failing SHOULD is a warning."""
        return "warning" if observation.outcome == "fail" else observation.outcome

    def failure_text(self, observation: Observation) -> str:
        """A failed check as a person reads it."""
        requirement = next(r for r in self.requirements if r.id in observation.requirements)
        outcome = Outcome(
            requirement.id,
            "fail",
            requirement.level,
            requirement.profile,
            (observation.check,),
            observation.message,
            observation.finding,
            self.reproduce(requirement),
        )
        return failure_text(requirement, outcome)

    def reproduce(self, requirement: Requirement) -> str:
        """The command that runs just the checks of one requirement."""
        parts = ["pytest", f"--platform={self.config.subject.name}", f"--sglang={self.config.host.kind}"]
        if self.config.host.kind == "reference":
            parts.append(f"--contract={self.config.host.release}")
        return " ".join([*parts, "-k", requirement.id])

    def facts(self) -> dict[str, Any]:
        """What was learnt of the platform, as plain data: travels from a worker to the controller."""
        return {"facts": dict(self.session.facts), "profiles": list(self.profiles)}

    def facts_so_far(self) -> dict[str, Any]:
        """The same for an interrupted run, which must not wait for the platform again."""
        return {"facts": dict(self.session.facts_so_far), "profiles": list(self.config.profiles or PROFILES)}

    def close(self) -> None:
        """Let the run's processes end."""
        self.session.close()


class Collection:
    """The hooks that every pytest process of the run needs."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> Generator[None, Any, Any]:
        """Files of the suite have a collector of their own, and no other."""
        found = yield
        area = collection.collector(file_path, parent)
        return found if area is None else [area]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the observation on the report: it travels between xdist's processes, and no plugin can change it."""
        report = yield
        if isinstance(item, collection.CheckItem) and report.when == "call" and item.observation:
            setattr(report, collection.ATTRIBUTE, item.observation.to_json())
            report.sections = []
        return report


class Worker:
    """An xdist worker: hands what it learnt of the platform to the controller."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Leave the facts where the controller finds them."""
        if session.testscollected and exitstatus != pytest.ExitCode.INTERRUPTED:
            session.config.workeroutput[_FACTS] = self._judge.facts()  # type: ignore[attr-defined]


class Recorder:
    """Collects observations in the main process, and at the end writes the record and sets the exit status."""

    def __init__(self, config: pytest.Config, judge: Judge, known: waivers.Waivers | None, address: str) -> None:
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
        node.workerinput[_ADDRESS] = self._address

    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what an xdist worker learnt of the platform."""
        self._learnt.update(getattr(node, "workeroutput", {}).get(_FACTS, {}))

    def pytest_report_header(self) -> str:
        """One line: who is judged, inside what."""
        config = self._judge.config
        kind = "built into SGLang" if config.subject.in_tree else config.subject.distribution
        return (
            f"sglang-conformance {__version__}: platform {config.subject.name} ({kind}), "
            f"{config.host.kind} host, contract {config.host.release}"
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
            self._run(profiles, learnt["facts"]),
            self._waivers.valid if self._waivers else (),
            reproduce=self._judge.reproduce,
        )

    def _run(self, profiles: tuple[str, ...], facts: Mapping[str, Any]) -> Run:
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
            environment=environment(config, facts),
            reasons=tuple(self._reasons(profiles)),
        )

    def _reasons(self, profiles: Sequence[str]) -> Iterator[str]:
        """Why this run can never certify."""
        applying = {r.id for r in self._judge.requirements if r.profile in profiles}
        expected = {c.id for c in all_checks() if applying & set(c.requirements)}
        missing = expected - {o.check for o in self._observations}
        if missing:
            yield f"{len(missing)} of {len(expected)} checks did not report{self._narrowed_by()}"
        if self._overruled:
            yield f"another plugin changed the outcome of {len(self._overruled)} checks, {self._overruled[0]} first"
        config = self._judge.config
        if config.examples < 50:
            yield f"--examples={config.examples} is fewer than the 50 of a certification"

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
    from importlib.metadata import version

    return {
        "python": machine.python_version(),
        "implementation": sys.implementation.name,
        "system": f"{machine.system()} {machine.release()}",
        "machine": machine.machine(),
        "packages": {name: version(name) for name in ("torch", "pytest", "hypothesis", "numpy")},
        "options": {"examples": config.examples, "deadline": config.deadline},
        "platform": dict(facts),
    }


def _print(terminalreporter: Any, line: Line) -> None:
    terminalreporter.write_line(line.text, **_MARKUP.get(line.role, {}))
