"""Certifying a plugin of the zoo without a pytest process of its own: one warm process serves them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from sglang_conformance.certificate.model import Certificate, HostIdentity, PlatformIdentity, Run
from sglang_conformance.certificate.verdict import certify
from sglang_conformance.config import resolve
from sglang_conformance.requirements import loader
from sglang_conformance.running import Judge
from sglang_conformance.suite.areas import AREAS, checks

EXAMPLES = 12


@cache
def catalogue() -> loader.Catalogue:
    """The catalogue, read once for all of the zoo."""
    return loader.load()


def inspect(
    folder: Path,
    platform: str,
    address: str,
    *,
    release: str = "0.5.23",
    deadline: float = 10.0,
    areas: Sequence[str] = AREAS,
    host: str = "reference",
) -> Certificate:
    """The certificate of a plugin installed in ``folder``, by the whole suite or some of its areas."""
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
            folder=folder,
        )
    judge = Judge(replace(config, paths=(str(folder),)), address, catalogue())
    try:
        suite = [check for area in areas for check in checks(area) if judge.applies(check)]
        observations = [judge.judge(check) for check in suite]
        run = Run("test", "test", HostIdentity(host, release), release, PlatformIdentity(platform), judge.profiles)
        return certify(judge.certified, observations, run, reproduce=judge.reproduce)
    finally:
        judge.close()


def failing(certificate: Certificate) -> dict[str, str]:
    """The requirements that failed (whatever their level), with what was seen."""
    return {o.requirement: o.message for o in certificate.outcomes if o.outcome == "fail"}
