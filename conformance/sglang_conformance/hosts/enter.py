"""Entering the host, in a probe: after :func:`enter`, ``sglang.srt.*`` is importable.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..contract.model import Contract
from ..probes.world import World, show_distributions
from . import groups, lacking

_NEUTRAL = {"SGLANG_PLATFORM": None, "SGLANG_PLUGINS": None, "SGLANG_USE_CPU_ENGINE": "1"}
MODULES = ("sglang.srt.platforms", "sglang.srt.plugins", "sglang.srt.plugins.hook_registry")


class HostImportError(ImportError):
    """The host itself does not import in this environment: nobody's plugin is to blame."""


def enter(kind: str, table: Mapping[str, Any]) -> Contract:
    """Make the host importable in this process and import what every platform meets; return its contract.

    Raises HostImportError where it does not import; of the installed SGLang it names all packages that are missing.
    """
    if kind == "reference":
        import sglang_reference

        sglang_reference.install(table, partial(_server_arguments, table["release"]))
    try:
        for module in MODULES:
            importlib.import_module(module)
    except Exception as error:
        if kind == "reference":
            raise HostImportError(f"the reference does not import: {type(error).__name__}: {error}") from error
        raise HostImportError(lacking.told(error, (*MODULES, groups.STATE))) from error
    return Contract.from_json(table)


def _server_arguments(release: str) -> dict[str, Any]:
    """The table of a release's server arguments, or of the nearest release before it, as the reference takes it."""
    from ..contract import tables

    return tables.load_server_args_before(release).to_json()


def enter_alone(kind: str, table: Mapping[str, Any], providers: Sequence[str]) -> Contract:
    """Enter the host with nothing of the vendors', and leave the choice of a platform open.

    The real SGLang chooses its platform while it is imported (0.5.23, srt/utils/common.py): here a built-in one. Its
    few modules that import the platform by name keep that one; whoever asks ``platforms.current_platform`` later gets
    what the environment then says. ``providers`` are the distributions that provide platforms.
    """
    before = {name: os.environ.get(name) for name in _NEUTRAL}
    World(_NEUTRAL, hidden=tuple(providers)).enter()
    try:
        contract = enter(kind, table)
    finally:
        show_distributions()
        World(before).enter()
    platforms = importlib.import_module("sglang.srt.platforms")
    platforms._current_platform = None  # type: ignore[attr-defined]
    return contract


def load_device_backends() -> None:
    """Load the vendors' torch extensions (entry points ``torch.backends``), as importing torch does anywhere else.

    The warm process has imported torch without them.
    """
    import torch

    enabled = getattr(torch, "_is_device_backend_autoload_enabled", None)
    if enabled is not None and enabled():
        torch._import_device_backends()  # type: ignore[no-untyped-call]


def resolve() -> Any:
    """Load the plugins and resolve the platform as SGLang's processes do (0.5.23, srt/entrypoints/engine.py)."""
    from sglang.srt import platforms
    from sglang.srt.plugins import load_plugins

    load_plugins()
    return platforms.current_platform


def resolve_afresh(kind: str, table: Mapping[str, Any]) -> Any:
    """Enter the host and resolve the platform in a process that has just begun, as one that SGLang spawned does."""
    importlib.import_module("torch")  # which loads the vendors' extensions by itself
    enter(kind, table)
    return resolve()
