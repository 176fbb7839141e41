"""The pytest plugin: options, and nothing else until ``--platform`` is given.

This module is imported by every pytest run of every environment that has the kit installed. It must stay cheap: no
torch, no hypothesis, nothing of the kit but this file (tests/plugin measures it).

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``pytest --platform=NAME``."""
    group = parser.getgroup("sglang-conformance", "SGLang platform conformance")
    add = group.addoption
    add("--platform", metavar="NAME", help="certify this platform; without it the kit stays asleep")
    add(
        "--sglang",
        choices=("auto", "reference", "installed"),
        default="auto",
        help="the host: the kit's re-implementation, or the SGLang of this environment "
        "(auto: installed if importable, else reference)",
    )
    add(
        "--contract",
        metavar="RELEASE",
        help="the SGLang release to certify for (default: the installed host's own; the newest for the reference)",
    )
    add("--profile", metavar="NAME[,NAME]", help="the profiles to certify, with core (default: all that it declares)")
    add("--waivers", metavar="FILE", help="known failures, with owner, link and expiry (TOML)")
    add(
        "--certificate",
        metavar="DIR",
        default="conformance-report",
        help="the folder for junit.xml and certificate.json (default: conformance-report)",
    )
    add("--examples", metavar="N", type=int, help="hypothesis examples a property (default: 50)")
    add("--deadline", metavar="SECONDS", type=float, help="how long vendor code may take at a time (default: 30)")


def pytest_configure(config: pytest.Config) -> None:
    """Wake the kit where a platform is named."""
    if config.getoption("--platform") is not None:
        from .running import wake

        wake(config)
