"""Whether what a platform assigned to the server's arguments is something that SGLang can read there.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from numbers import Integral, Real
from typing import Any

from ...contract.server_args import ServerArguments
from ...hosts import serving
from . import graph_settings
from .server_args import table

ATTENTION = ("attention_backend", "prefill_attention_backend", "decode_attention_backend")
"""Fields that name an attention backend, by which SGLang looks it up (0.5.23, attention_backend_setup.py)."""

OPERATORS = (
    *("trust_remote_code", "enable_custom_logit_processor", "host", "port", "api_key", "admin_api_key"),
    *("ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_keyfile_password"),
)
"""Fields by which who runs the server says what it trusts and who may reach it."""

_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "None": lambda value: value is None,
    "bool": lambda value: isinstance(value, bool) or type(value).__name__ == "bool_",
    "int": lambda value: isinstance(value, Integral),
    "float": lambda value: isinstance(value, Real) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, (str, os.PathLike)),
    "dict": lambda value: isinstance(value, Mapping),
}
_BOUNDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "mem_fraction_static": ("a share between 0 and 1", lambda value: value is None or 0 < value <= 1),
    "page_size": ("at least 1", lambda value: value is None or value >= 1),
}


def wrong(known: ServerArguments, device: str, changed: Mapping[str, Any]) -> dict[str, str]:
    """The fields, of those that the platform changed, that hold what SGLang cannot read; with what they may hold."""
    found = {name: _wanted(known, device, name, value) for name, value in changed.items()}
    return {name: wanted for name, wanted in found.items() if wanted}


def is_attention(value: Any, release: str) -> bool:
    """Whether an attention backend goes by this name; NotCovered where what plugins register cannot be seen."""
    if value is None or value in table(release).attention_backends:
        return True
    try:
        from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS
    except Exception as error:  # a package that it wants may lack, or be another than it wants
        text = f"whether the attention backend {value!r} is registered cannot be seen on this host: {error}"
        raise serving.lacking(text) from error
    return value in ATTENTION_BACKENDS


def _wanted(known: ServerArguments, device: str, name: str, value: Any) -> str:
    """What the field may hold, where the value is nothing of the kind; else empty."""
    if name == "cuda_graph_config":
        return "" if graph_settings.is_resolved(value) else "graph settings with a backend for each phase"
    if name == "device":
        return "" if value == device else f"the platform's device type, {device!r}"
    types = known.types[name].split(" | ")
    nothing = value is None and known.fields[name] is None
    if not nothing and not any(_is_of(value, kind) for kind in types):
        return " or ".join(types)
    told, holds = _BOUNDS.get(name, ("", lambda _: True))
    return "" if holds(value) else told


def _is_of(value: Any, kind: str) -> bool:
    if kind.startswith("list"):
        item = kind.removeprefix("list").strip("[]")
        listed = isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))
        return listed and (not item or all(_is_of(each, item) for each in value))
    return kind not in _KINDS or _KINDS[kind](value)
