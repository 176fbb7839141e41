"""What users configure, read when asked: nothing is kept, so an answer never comes before its configuration.

Facts: SGLang 0.5.11 to 0.5.23, srt/environ.py and the modules that read these variables.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from .._releases import within
from .topology import Settings

_WORDS = {"true": True, "1": True, "yes": True, "y": True, "false": False, "0": False, "no": False, "n": False}


def read(environ: Mapping[str, str], release: str, *, enabled: bool = True) -> Settings:
    """The settings of this process in a release. ``enabled`` is what the server's arguments say (False for
    ``--disable-custom-all-reduce``). A text that cannot be parsed warns, and the default holds.
    """

    def truth(name: str, default: bool) -> bool:
        text = environ.get(name)
        if text is not None and text.lower() not in _WORDS:
            warnings.warn(f"{name} is ignored, {default} holds: {text!r} is neither true nor false", stacklevel=3)
        return _WORDS.get((text or "").lower(), default)

    def number(name: str, default: int | None, first: str) -> int | None:
        text = environ.get(name)
        if text is None or not within(release, first):
            return default
        try:
            return int(text)
        except ValueError:
            warnings.warn(f"{name} is ignored, {default} holds: {text!r} is not a whole number", stacklevel=3)
            return default

    by_default = within(release, "0.5.12")
    second = truth("SGLANG_OPT_USE_CUSTOM_ALL_REDUCE_V2" if by_default else "SGLANG_USE_JIT_ALL_REDUCE", by_default)
    across = within(release, "0.5.17", "0.5.19") and truth("SGLANG_ENABLE_CUSTOM_ALL_REDUCE_V2_MULTINODE", False)
    return Settings(
        enabled=enabled,
        second=second,
        unasked_across_nodes=across,
        deterministic=truth("SGLANG_USE_1STAGE_ALLREDUCE", truth("SGLANG_ENABLE_DETERMINISTIC_INFERENCE", False)),
        graphs=not truth("SGLANG_MEMORY_SAVER_CUDA_GRAPH", False),
        max_kib=number("SGLANG_CUSTOM_ALL_REDUCE_V2_MAX_SIZE_KB", None, "0.5.16") or Settings.max_kib,
        forced_pull_kib=number("SGLANG_FORCE_CUSTOM_ALL_REDUCE_V2_PULL_SIZE_KB", None, "0.5.17"),
        forced_push_kib=number("SGLANG_FORCE_CUSTOM_ALL_REDUCE_V2_PUSH_SIZE_KB", None, "0.5.17"),
    )
