"""Choosing the attention backend of a runner by its name, from SGLang's registry.

Facts: SGLang 0.5.11, srt/model_executor/model_runner.py; 0.5.16 and later,
srt/model_executor/model_runner_components/attention_backend_setup.py.
"""

from __future__ import annotations

from typing import Any

from sglang_reference._errors import not_covered

from .._arguments.resolving import attention_backends_of, settled


def backend_of(runner: Any) -> Any:
    """The attention backend that the arguments name. Raises ValueError for a name that nobody has registered.

    NotCovered where prefill and decode are to have different ones.
    """
    from ..layers.attention import attention_registry

    prefill, decode = attention_backends_of(runner.server_args)
    if prefill != decode:
        raise not_covered(f"attention backends that differ: {prefill} for prefill, {decode} for decode")
    if settled(runner.server_args).enable_two_batch_overlap:
        raise not_covered("two batches that overlap")
    backends = attention_registry.ATTENTION_BACKENDS
    if decode not in backends:
        raise ValueError(f"Invalid attention backend: {decode}; there are {', '.join(sorted(backends))}")
    runner.init_new_workspace = False
    return attention_registry.attn_backend_wrapper(runner, backends[decode](runner))
