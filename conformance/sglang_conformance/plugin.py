"""The pytest plugin: options, and nothing else until ``--platform`` is given.

This module is imported by every pytest run of every environment that has the kit installed. It must stay cheap: no
torch, no hypothesis, nothing of the kit but this file (tests/plugin measures it).

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

_ASKED_FOR = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options where the command line speaks of them.

    Nowhere else: a project's conftest may have a ``--platform`` or ``--profile`` of its own, and merely having the kit
    installed must not clash with it. (``pytest --platform=NAME --help`` lists them.)
    """
    config = pluginmanager.get_plugin("pytestconfig")
    if config is not None:
        given = [*config.invocation_params.args, *os.environ.get("PYTEST_ADDOPTS", "").split()]
        _add_options_if_asked(config, parser, given)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Add the options where a project's own settings (``addopts``) speak of them."""
    if not early_config.stash.get(_ASKED_FOR, False):
        _add_options_if_asked(early_config, parser, args)


def pytest_configure(config: pytest.Config) -> None:
    """Wake the kit where a platform is named."""
    if config.stash.get(_ASKED_FOR, False):
        from .running import wake

        wake(config)


def _add_options_if_asked(config: pytest.Config, parser: pytest.Parser, args: Sequence[object]) -> None:
    if any(str(arg) == "--platform" or str(arg).startswith("--platform=") for arg in args):
        config.stash[_ASKED_FOR] = True
        _add_options(parser)


def _add_options(parser: pytest.Parser) -> None:
    """The options of ``pytest --platform=NAME``."""
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
    add(
        "--world-size",
        metavar="N[,N]",
        help="sizes of the groups of ranks (default: 2 and 4, or what the devices allow)",
    )
    add("--ranks-at", metavar="HOST:PORT", help="wait here for ranks that are started elsewhere (torchrun, srun, ...)")
    add("--secret-file", metavar="FILE", help="the secret shared with them (default: SGLANG_CONFORMANCE_SECRET)")
    add("--deadline", metavar="SECONDS", type=float, help="how long vendor code may take at a time (default: 30)")
