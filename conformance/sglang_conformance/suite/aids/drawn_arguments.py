"""What users set: settings of the server, one at a time and drawn together.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st

from .server_args import table

_ATTENTION = ("triton", "torch_native", "flashinfer", "fa3")

# Fields whose value is the user's free choice, with values that each release takes and that no release has as default.
CHOICES: Mapping[str, Sequence[Any]] = {
    "attention_backend": _ATTENTION,
    "prefill_attention_backend": _ATTENTION,
    "decode_attention_backend": _ATTENTION,
    "speculative_draft_attention_backend": _ATTENTION,
    "mm_attention_backend": ("sdpa", "triton_attn"),
    "sampling_backend": ("pytorch", "flashinfer"),
    "grammar_backend": ("xgrammar", "outlines", "llguidance"),
    "moe_runner_backend": ("triton",),
    "page_size": (1, 16, 64, 128),
    "mem_fraction_static": (0.4, 0.75, 0.88, 0.95),
    "kv_cache_dtype": ("bf16", "fp8_e5m2", "fp8_e4m3"),
    "dtype": ("float16", "bfloat16", "float32"),
    "quantization": ("fp8", "awq", "gptq", "w8a8_int8"),
    "max_running_requests": (1, 48, 4096),
    "max_total_tokens": (4096, 1 << 20),
    "max_prefill_tokens": (2048, 32768),
    "chunked_prefill_size": (-1, 512, 8192),
    "schedule_policy": ("lpm", "random"),
    "schedule_conservativeness": (0.3, 1.3),
    "cuda_graph_bs": ([1, 2, 4], [8]),
    "cuda_graph_bs_decode": ([1, 2, 4], [8]),
    "cuda_graph_max_bs": (8, 256),
    "cuda_graph_max_bs_decode": (8, 256),
    "torch_compile_max_bs": (1, 16),
    "random_seed": (0, 7),
    "base_gpu_id": (1, 4),
    "tp_size": (2, 8),
    "pp_size": (2, 4),
    "dp_size": (2,),
    "watchdog_timeout": (30, 3600),
    "speculative_algorithm": ("EAGLE", "NGRAM"),
    "disable_cuda_graph": (True,),
    "disable_piecewise_cuda_graph": (True,),
    "disable_decode_cuda_graph": (True,),
    "disable_prefill_cuda_graph": (True,),
    "disable_cuda_graph_padding": (True,),
    "disable_overlap_schedule": (True,),
    "disable_radix_cache": (True,),
    "disable_custom_all_reduce": (True,),
    "enable_torch_compile": (True,),
    "enable_mixed_chunk": (True,),
    "enable_hierarchical_cache": (True,),
}

_FILLED_IN = frozenset({"device", "mm_process_config", "cuda_graph_config"})

_OTHERS: Mapping[str, Sequence[Any]] = {
    "int": (2, 3),
    "float": (0.5, 0.25),
    "str": ("chosen",),
    "list[int]": ([2, 4], [8]),
    "list[float]": ([0.5, 2.0],),
    "list[str]": (["chosen"],),
    "dict": ({"chosen": 1},),
}
"""Two values of each type, of which one is not the default."""


def single_settings(release: str) -> Iterator[dict[str, Any]]:
    """Every value of :data:`CHOICES` that the release knows, alone: ``{"page_size": 64}``; one of each field first."""
    known = table(release).fields
    for rank in range(max(map(len, CHOICES.values()))):
        yield from ({name: values[rank]} for name, values in CHOICES.items() if name in known and rank < len(values))


def further_settings(release: str) -> Iterator[dict[str, Any]]:
    """One value other than the default for every other field, alone, by the type that the release declares for it.

    Not what SGLang has filled in itself by then, nor what no command line sets.
    """
    known = table(release)
    for name, default in known.fields.items():
        if name in CHOICES or name in _FILLED_IN or name.startswith("_"):
            continue
        value = _other(known.types[name].split(" | "), known.choices.get(name, ()), default)
        if value is not None:
            yield {name: value}


@cache
def settings_of(release: str) -> st.SearchStrategy[dict[str, Any]]:
    """Some of a release's fields together: ``{"page_size": 64, "disable_radix_cache": True}``."""
    pairs = [pair for chosen in single_settings(release) for pair in chosen.items()]
    return st.lists(st.sampled_from(pairs), max_size=8).map(dict)


def _other(types: Sequence[str], choices: Sequence[str], default: Any) -> Any:
    """A value of one of the types that is not the default, and that nobody takes for none; None where none is known."""
    if choices:
        return next((choice for choice in choices if choice != default), None)
    if "bool" in types:
        return not default
    return next((value for kind in types for value in _OTHERS.get(kind, ()) if value != default), None)
