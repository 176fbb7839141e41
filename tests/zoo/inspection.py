"""Certifying a plugin of the zoo without a pytest process of its own: one warm process serves them all.

So does the host's own platform, which is asked about each failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from sglang_conformance.certificate.model import Certificate, HostIdentity, PlatformIdentity, Run
from sglang_conformance.certificate.verdict import certify
from sglang_conformance.config import resolve
from sglang_conformance.judge import Judge
from sglang_conformance.requirements import loader
from sglang_conformance.stages import BuiltIn
from sglang_conformance.suite.areas import all_checks
from sglang_conformance.suite.declare import Check

EXAMPLES = 12


@dataclass(frozen=True)
class Bench:
    """What every plugin of the zoo is judged with."""

    address: str
    built_in: BuiltIn


@cache
def catalogue() -> loader.Catalogue:
    """The catalogue, read once for all of the zoo."""
    return loader.load()


def inspect(
    folder: Path,
    platform: str,
    bench: Bench,
    *,
    release: str = "0.5.23",
    deadline: float = 10.0,
    suite: Sequence[Check] | None = None,
    host: str = "reference",
    world_size: str | None = None,
) -> Certificate:
    """The certificate of a plugin installed in ``folder``, by the whole suite or some of its checks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        config = resolve(
            platform=platform,
            sglang=host,
            contract=release if host == "reference" else None,
            profile=None,
            waivers=None,
            certificate="unused",
            examples=EXAMPLES,
            deadline=deadline,
            world_size=world_size,
            folder=folder,
        )
    judge = Judge(replace(config, paths=(str(folder),)), bench.address, catalogue(), built_in=bench.built_in)
    try:
        applying = [check for check in suite or all_checks() if judge.applies(check)]
        observations = [judge.judge(check) for check in applying]
        run = Run("test", "test", HostIdentity(host, release), release, PlatformIdentity(platform), judge.profiles)
        return certify(judge.certified, observations, run, reproduce=judge.reproduce)
    finally:
        judge.close()


def told(certificate: Certificate, requirement: str) -> str:
    """What the finding of a requirement says."""
    finding = next(o.finding for o in certificate.outcomes if o.requirement == requirement)
    return "" if finding is None else "\n".join((finding.seen, finding.call, finding.where, finding.cause))


def failing(certificate: Certificate) -> dict[str, str]:
    """The requirements that failed (whatever their level), with what was seen."""
    return {o.requirement: o.message for o in certificate.outcomes if o.outcome == "fail"}
