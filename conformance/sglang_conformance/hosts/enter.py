"""Entering the host, in a probe: after :func:`enter`, ``sglang.srt.*`` is importable.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ..contract.model import Contract

MODULES = ("sglang.srt.platforms", "sglang.srt.plugins", "sglang.srt.plugins.hook_registry")


class HostImportError(ImportError):
    """The host itself does not import in this environment: nobody's plugin is to blame."""


def enter(kind: str, table: Mapping[str, Any]) -> Contract:
    """Make the host importable in this process and import what every platform meets; return its contract.

    Raises HostImportError, with the missing package named, where the installed SGLang does not import.
    """
    if kind == "reference":
        import sglang_reference

        sglang_reference.install(table)
    try:
        for module in MODULES:
            importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        advice = f"; pip install {missing}" if missing and missing != "sglang" else ""
        raise HostImportError(f"the {kind} SGLang does not import: {error}{advice}") from error
    return Contract.from_json(table)


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
