"""What speculative decoding asks of an out-of-tree platform while the arguments are resolved.

DFLASH from 0.5.21 on, EAGLE's family from 0.5.23 on (srt/arg_groups/speculative_hook.py). The settings that SGLang
then chooses for a draft model are not here: a server with one is not covered.
"""

from __future__ import annotations

import logging
from typing import Any

from .. import platforms
from .._contract import since
from .resolving import declare, settled

logger = logging.getLogger("sglang.srt.arg_groups.speculative_hook")

_EAGLE = ("EAGLE", "EAGLE3", "STANDALONE", "FROZEN_KV_MTP")
_ON_DEVICES = ("cuda", "npu", "xpu")


def handle_speculation(arguments: Any) -> None:
    """Check the algorithm that the user has named. Raises ValueError where the platform does not support it."""
    algorithm = settled(arguments).speculative_algorithm
    if algorithm is None:
        return
    algorithm = "EAGLE" if algorithm.upper() == "NEXTN" else algorithm.upper()
    declare(arguments, "speculative decoding", speculative_algorithm=algorithm)
    if algorithm == "DFLASH" and since("0.5.21"):
        _check(algorithm, arguments, built_in=settled(arguments).device in _ON_DEVICES)
        _check_dflash(arguments)
        _choose_draft_backend(arguments)
    elif algorithm in _EAGLE and since("0.5.23"):
        _check(algorithm, arguments, built_in=True)


def _check(algorithm: str, arguments: Any, *, built_in: bool) -> None:
    platform = platforms.current_platform
    if not (platform.supports_speculative_algorithm(algorithm) if platform.is_out_of_tree() else built_in):
        raise ValueError(
            f"{type(platform).__name__} does not support speculative decoding by {algorithm} "
            f"on device {settled(arguments).device!r}"
        )


def _check_dflash(arguments: Any) -> None:
    values = settled(arguments)
    if values.pp_size != 1:
        raise ValueError("DFLASH speculative decoding is for pp_size == 1")
    if values.speculative_draft_model_path is None:
        raise ValueError("DFLASH speculative decoding needs speculative_draft_model_path")


def _choose_draft_backend(arguments: Any) -> None:
    """The attention backend of DFLASH's draft: the user's, else decode's or prefill's, else the platform's default."""
    values = settled(arguments)
    chosen = values.speculative_draft_attention_backend or values.prefill_attention_backend or values.attention_backend
    if chosen is None:
        chosen = _fallback()
    elif not _supported(chosen):
        fallback = _fallback()
        logger.warning("DFLASH's draft cannot have attention backend %r; it has %r", chosen, fallback)
        chosen = fallback
    declare(arguments, "speculative decoding", speculative_draft_attention_backend=chosen)


def _supported(backend: str) -> bool:
    platform = platforms.current_platform
    if platform.is_out_of_tree():
        return bool(platform.supports_speculative_draft_attention_backend("DFLASH", backend))
    return backend != "torch_native"


def _fallback() -> str:
    platform = platforms.current_platform
    if not platform.is_out_of_tree():
        return "flashinfer"
    try:
        fallback: str = platform.get_default_speculative_draft_attention_backend("DFLASH")
    except NotImplementedError as error:
        raise ValueError(
            f"{type(platform).__name__} needs get_default_speculative_draft_attention_backend() for DFLASH"
        ) from error
    if not _supported(fallback):
        raise ValueError(
            f"{type(platform).__name__}.get_default_speculative_draft_attention_backend() gives {fallback!r}, "
            "which the platform itself says it does not support"
        )
    return fallback
