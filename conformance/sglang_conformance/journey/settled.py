"""Server arguments as a process has them, once they are settled: of SGLang's object, in any release.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Collection
from typing import Any

from .shown import shown

LOOKED_AT = (
    *("device", "dtype", "tp_size", "pp_size", "attention_backend", "prefill_attention_backend", "page_size"),
    *("decode_attention_backend", "sampling_backend", "kv_cache_dtype", "quantization", "mem_fraction_static"),
    *("max_total_tokens", "max_running_requests", "chunked_prefill_size", "disable_radix_cache", "random_seed"),
    *("disable_cuda_graph", "schedule_policy", "skip_tokenizer_init"),
)
"""The arguments that are compared between processes: those that the journey asks for, and that platforms choose."""

_PLAIN = (bool, int, float, str, type(None))


def values(arguments: Any, names: Collection[str] = LOOKED_AT) -> dict[str, Any]:
    """What holds of these arguments, as plain data; without those that the release has not.

    From 0.5.19 on the object keeps what the user gave, and decisions beside it, of which the last holds
    (srt/arg_groups/overrides.py).
    """
    decided: dict[str, Any] = {}
    for _, declared in getattr(arguments, "_resolved_overrides", None) or ():
        decided |= declared
    found = {}
    for name in names:
        try:
            value = decided[name] if name in decided else getattr(arguments, name)
        except AttributeError:
            continue
        found[name] = _plain(value)
    return found


def overridden(names: Collection[str] = LOOKED_AT) -> dict[str, Any]:
    """What holds in this process in place of the arguments that it was given, as plain data.

    From 0.5.17 on SGLang keeps that apart from the object (srt/runtime_context.py).
    """
    module = sys.modules.get("sglang.srt.runtime_context")
    context = vars(module).get("get_context") if module is not None else None  # the reference has none
    log = getattr(context(), "overrides_log", None) if context is not None else None
    found: dict[str, Any] = {}
    for _, decided in log() if log is not None else ():
        found |= {name: _plain(value) for name, value in decided.items() if name in names}
    return found


def unsendable(arguments: Any) -> list[str]:
    """What of these arguments cannot be pickled, as it must be for a process that is spawned."""
    own = dict(vars(arguments))
    for _, declared in own.pop("_resolved_overrides", None) or ():
        own |= declared
    return [name for name, value in own.items() if not _pickles(value)]


def _plain(value: Any) -> Any:
    return value if type(value) in _PLAIN else shown(value)


def _pickles(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
