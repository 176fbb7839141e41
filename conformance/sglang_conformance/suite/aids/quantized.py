"""A linear layer of the platform's quantization, made and loaded as SGLang's loader does it.

Facts: SGLang 0.5.23, srt/model_loader/loader.py and srt/layers/linear.py.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...contract.model import Contract
from .. import expect
from . import operands, parts
from .construction import REFUSALS
from .server_args import table
from .uncovered import class_of

MEMBER = "get_quantization_config"
INPUTS, OUTPUTS = 128, 64
TOLERANCE = 0.15
"""How large the error of a quantized product may be, as a part of the product: 4 bits a weight make about a tenth."""

# What checkpoints say of themselves, from the least to more than any scheme asks.
_SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"activation_scheme": "dynamic", "bits": 8, "group_size": 64, "desc_act": False, "sym": True, "lm_head": False},
)


@dataclass(frozen=True)
class Scheme:
    """A quantization that the platform has a class for."""

    name: str
    answer: expect.Answer

    @property
    def where(self) -> str:
        """The vendor's line."""
        return expect.place(self.answer.value) or self.answer.where


def schemes(platform: Any, contract: Contract) -> Iterator[Scheme]:
    """Those of the release's quantizations that the platform has a class for; what it refuses is left out."""
    for name in table(contract.release).quantizations:
        try:
            answer = class_of(platform, MEMBER, name, or_none=True)
        except expect.Violation:  # which FAC-011 judges
            continue
        if answer is not None:
            yield Scheme(name, answer)


def computes(platform: Any, scheme: Scheme) -> bool:
    """Fail where a linear layer of the scheme gives something else than its product; whether it was not refused."""
    import torch

    config = _config(scheme)
    if config is None:
        return False
    call = f"{scheme.answer.call}, for {scheme.name}"
    dtypes = parts.attempt(f"{call}: get_supported_act_dtypes()", config.get_supported_act_dtypes, where=scheme.where)
    dtype = next((each for each in ("bfloat16", "float16", "float32") if getattr(torch, each) in dtypes), None)
    if dtype is None:
        return False
    bench = operands.bench(platform, dtype)
    linear = parts.part("ReplicatedLinear", "srt.layers.linear")
    call = f"{call}: ReplicatedLinear({INPUTS}, {OUTPUTS})"

    def make() -> Any:
        options = {"bias": False, "params_dtype": getattr(torch, dtype), "quant_config": config}
        return bench.made(call, lambda: linear(INPUTS, OUTPUTS, prefix="model.layers.0.mlp.down_proj", **options))

    layer = _unless_refused(make)
    if layer is None:
        return False
    weight = _loaded(bench, layer)
    parts.attempt(
        f"{call}: process_weights_after_loading",
        lambda: layer.quant_method.process_weights_after_loading(layer),
        where=scheme.where,
    )
    x = bench.drawn((5, INPUTS), 1)
    seen = parts.attempt(f"{call}({dtype} {[5, INPUTS]})", lambda: _output(layer, x.there), where=scheme.where)
    told, wanted = f"{list(seen.shape)}, {seen.dtype}", f"{[5, OUTPUTS]}, {getattr(torch, dtype)}"
    expect.that(told == wanted, expected=wanted, seen=told, call=call, where=scheme.where)
    if weight is not None:
        _near(seen.cpu().double().numpy(), x.true @ weight.T, call, scheme.where)
    return True


def _config(scheme: Scheme) -> Any:
    """The configuration of a checkpoint's settings; None where it refuses them, or wants others."""
    for settings in _SETTINGS:
        try:
            return scheme.answer.value.from_config({"quant_method": scheme.name, **settings})
        except (*REFUSALS, KeyError) as error:
            expect.pass_on_uncovered(error)
    return None


def _unless_refused(make: Any) -> Any:
    try:
        return make()
    except expect.Violation as violation:
        if isinstance(violation.__context__, REFUSALS):
            return None
        raise


def _loaded(bench: operands.Bench, layer: Any) -> Any:
    """Weights as the layer was given them, as float64; None where it keeps them in another form."""
    weight = getattr(layer, "weight", None)
    if weight is None or tuple(weight.shape) != (OUTPUTS, INPUTS) or not weight.is_floating_point():
        return None
    numbers = bench.drawn((OUTPUTS, INPUTS), 2)
    loader = getattr(weight, "weight_loader", None)
    if loader is None:
        weight.data.copy_(numbers.there)
    else:
        loader(weight, numbers.there)
    return numbers.true


def _output(layer: Any, x: Any) -> Any:
    import torch

    with torch.no_grad():
        return layer(x)[0]


def _near(seen: Any, true: Any, call: str, where: str) -> None:
    import numpy as np

    off = float(np.linalg.norm(seen - true) / np.linalg.norm(true))
    expect.that(
        off <= TOLERANCE,
        expected=f"the product of input and weight, within {TOLERANCE:.0%}",
        seen=f"{off:.0%} off: {seen[0, 0]:.4g}, where it is {true[0, 0]:.4g}",
        call=call,
        where=where,
    )
