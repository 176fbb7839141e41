"""Waking the kit in a pytest process: resolve the options, start the warm process, register what judges and records.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from . import collection
from .certificate import folder, waivers
from .config import Config, resolve
from .errors import OptionError
from .journey import shared
from .judge import Judge
from .probes import client
from .recorder import ADDRESS, FACTS, Recorder
from .requirements import loader
from .stages import preloaded

if TYPE_CHECKING:
    from .ranks.cluster import Cluster

PART = "part"
"""Below the record's folder, where the record of a run goes that was asked for a part of the suite only."""


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
        cluster = _cluster(config, options)
        known = _prepare(config, options, catalogue) if worker is None else None
    except (OptionError, folder.FolderError, waivers.WaiverError, loader.CatalogueError) as error:
        raise pytest.UsageError(str(error)) from error
    address = worker[ADDRESS] if worker else _start(config, options)
    _take_over_arguments(config)
    judge = Judge(options, address, catalogue, workers=worker["workercount"] if worker else 1, cluster=cluster)
    config.add_cleanup(judge.close)
    config.stash[collection.JUDGE] = judge
    config.pluginmanager.register(Collection(), "sglang_conformance_collection")
    if worker is None:
        _end_on_request(config)
        config.pluginmanager.register(Recorder(config, judge, known, address), "sglang_conformance_recorder")
    else:
        config.pluginmanager.register(Worker(judge), "sglang_conformance_worker")


def _prepare(config: pytest.Config, options: Config, catalogue: loader.Catalogue) -> waivers.Waivers | None:
    """Read the waivers, and see at the start, not after a long run, that the record can be written."""
    known = waivers.load(options.waivers, today=date.today(), known=catalogue) if options.waivers else None
    if not config.option.collectonly:
        folder.prepare(options.certificate)
    return known


def _end_on_request(config: pytest.Config) -> None:
    """Let SIGTERM, which a CI sends when its time is over, end the run as Ctrl-C does: with the record so far."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
        config.add_cleanup(_end_as_ever)


def _end_as_ever() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")


def _start(config: pytest.Config, options: Config) -> str:
    """Start the warm process, to be ended with pytest; its address."""
    if config.option.collectonly:
        return ""
    zygote = client.start(preloaded(in_tree=options.subject.in_tree))
    config.add_cleanup(zygote.close)
    config.add_cleanup(partial(shared.forget, zygote.address))
    return zygote.address


def _cluster(config: pytest.Config, options: Config) -> Cluster | None:
    """Listen for the ranks that are started elsewhere; the secret is then no longer in the environment.

    Raises OptionError where that cannot be done.
    """
    if options.ranks_at is None or config.option.collectonly:
        return None
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        raise OptionError("--ranks-at goes with one pytest process; leave out -n")
    from .ranks.cluster import Cluster, ClusterError
    from .ranks.secret import SecretError, take_secret

    try:
        cluster = Cluster(options.ranks_at, take_secret(options.secret_file, os.environ))
    except (ClusterError, SecretError) as error:
        raise OptionError(str(error)) from error
    config.add_cleanup(cluster.close)
    return cluster


def _options(config: pytest.Config) -> Config:
    get = config.getoption
    options = resolve(
        platform=get("--platform"),
        sglang=get("--sglang"),
        contract=get("--contract"),
        profile=get("--profile"),
        waivers=get("--waivers"),
        certificate=get("--certificate"),
        examples=get("--examples"),
        deadline=get("--deadline"),
        world_size=get("--world-size"),
        ranks_at=get("--ranks-at"),
        secret_file=get("--secret-file"),
        folder=config.invocation_params.dir,
    )
    return replace(options, certificate=options.certificate / PART) if _asks_for_a_part(config) else options


def _asks_for_a_part(config: pytest.Config) -> bool:
    """Whether the command line picks some checks: a look at them, whose record must not replace a certification's.

    What settings pick (``PYTEST_ADDOPTS``, ``addopts``) does replace it: where a whole run was meant, an old record
    must not pass for this one's.
    """
    asked = [str(argument) for argument in config.invocation_params.args]
    picking = ("-k", "-m", "--deselect", "--lf", "--last-failed")
    return any(argument.startswith(picking) or argument in map(str, config.args) for argument in asked)


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
        config.args[:] = [str(collection.SUITE)]
        config.option.tbstyle = "no"  # the closing summary tells failures, each once, the root first
        config.option.reportchars = ""


class Collection:
    """The hooks that every pytest process of the run needs."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """The suite's folder has a collector of its own, and no other."""
        return collection.collector(path, parent)

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
            session.config.workeroutput[FACTS] = self._judge.facts()  # type: ignore[attr-defined]
