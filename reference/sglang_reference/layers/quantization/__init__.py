"""``sglang.srt.layers.quantization``: the ways of quantising by name, and the platform's say in them.

SGLang's own configurations are not covered: only their names are known. Plugins may add theirs to
``QUANTIZATION_METHODS``; from 0.5.13 on an out-of-tree platform may have its own for a name that is known. Facts:
SGLang 0.5.11 to 0.5.23, srt/layers/quantization/__init__.py.
"""

from __future__ import annotations

from typing import Any

from sglang_reference._errors import not_covered

from ... import platforms
from ..._contract import since
from ..._released import Lifetime, absent
from ..utils._in_tree import is_cpu, is_cuda
from .base_config import QuantizationConfig

_NAMES = {
    **dict.fromkeys(
        [
            "fp8",
            "mxfp8",
            "blockwise_int8",
            "modelopt",
            "modelopt_fp8",
            "modelopt_fp4",
            "modelopt_mixed",
            "w8a8_int8",
            "w8a8_fp8",
            "awq",
            "awq_marlin",
            "bitsandbytes",
            "gguf",
            "gptq_marlin",
            "moe_wna16",
            "compressed-tensors",
            "w4afp8",
            "petit_nvfp4",
            "quark",
            "auto-round",
            "modelslim",
            "quark_int4fp8_moe",
        ],
        Lifetime(),
    ),
    "gptq": Lifetime(gone="0.5.20"),
    "qoq": Lifetime(gone="0.5.16"),
    "fbgemm_fp8": Lifetime(gone="0.5.16"),
    "quark_mxfp4": Lifetime("0.5.13"),
    "nvfp4_online": Lifetime("0.5.14"),
    "auto-round-int8": Lifetime("0.5.15"),
    "mxfp_w4a8": Lifetime("0.5.15"),
    "humming": Lifetime("0.5.16"),
    "minimax_m3_nvfp4": Lifetime("0.5.23"),
}


class _NotHere:
    """In the place of each configuration that SGLang has and the reference has not."""


_NOT_HERE: Any = _NotHere
BASE_QUANTIZATION_METHODS: dict[str, type[QuantizationConfig]] = dict.fromkeys(
    [name for name in _NAMES if name not in absent(_NAMES)], _NOT_HERE
)
if is_cuda() or (is_cpu() and since("0.5.14")):
    BASE_QUANTIZATION_METHODS["mxfp4"] = _NOT_HERE
if is_cpu() and since("0.5.20"):
    BASE_QUANTIZATION_METHODS["gptq"] = _NOT_HERE
QUANTIZATION_METHODS = {**BASE_QUANTIZATION_METHODS}


def get_quantization_config(quantization: str) -> type[QuantizationConfig]:
    """The configuration of a name: the platform's where it has one (from 0.5.13 on), else what is registered.

    Raises ValueError for a name that is not registered, which the platform is not asked for; NotCovered where it would
    be SGLang's own configuration.
    """
    if quantization not in QUANTIZATION_METHODS:
        raise ValueError(
            f"Invalid quantization method: {quantization}. Available methods: {list(QUANTIZATION_METHODS)}"
        )
    platform: Any = platforms.current_platform
    if since("0.5.13") and platform.is_out_of_tree():
        config: type[QuantizationConfig] | None = platform.get_quantization_config(quantization)
        if config is not None:
            return config
    found = QUANTIZATION_METHODS[quantization]
    if found is _NOT_HERE:
        raise not_covered(f"SGLang's own configuration for quantization {quantization!r}")
    return found
