"""Weights under Hugging Face's names, into the parameters of a model: several into one, experts into theirs.

Facts: SGLang 0.5.23, the load_weights methods of srt/models/{llama,mixtral,deepseek_v2}.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from ..layers.utils.common import get_layer_id
from ..model_loader.weight_utils import default_weight_loader

logger = logging.getLogger(__name__)

Weights = Iterable[tuple[str, torch.Tensor]]
Expert = tuple[str, str, int, str]


class Part(NamedTuple):
    """A weight that is a part of a wider parameter: the parameter's name, its own, and which part it is."""

    parameter: str
    weight: str
    shard: str | int


QKV = (Part("qkv_proj", "q_proj", "q"), Part("qkv_proj", "k_proj", "k"), Part("qkv_proj", "v_proj", "v"))
GATE_UP = (Part("gate_up_proj", "gate_proj", 0), Part("gate_up_proj", "up_proj", 1))
_COMPUTED = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
# What the first or the last stage of a pipeline alone has.
_OF_AN_END = ("model.embed_tokens.", "model.norm.", "lm_head.")


def load(model: Any, weights: Weights, parts: Sequence[Part], experts: Sequence[Expert] = ()) -> None:
    """Put weights where they belong; those of other stages are passed over, unknown ones told in the log."""
    parameters = dict(model.named_parameters())
    own = range(model.start_layer, model.end_layer)
    for name, weight in weights:
        layer = get_layer_id(name)
        if (layer is not None and layer not in own) or any(each in name for each in _COMPUTED):
            continue
        if not _load(parameters, name, weight, parts, experts) and not name.startswith(_OF_AN_END):
            logger.warning("The model has no parameter for the weight %s", name)


def _load(
    parameters: Mapping[str, Any], name: str, weight: torch.Tensor, parts: Sequence[Part], experts: Sequence[Expert]
) -> bool:
    for parameter, of, number, shard in experts:
        if of in name and (wide := parameters.get(name.replace(of, parameter))) is not None:
            wide.weight_loader(wide, weight, name.replace(of, parameter), shard_id=shard, expert_id=number)
            return True
    for part in parts:
        wide = parameters.get(name.replace(f".{part.weight}.", f".{part.parameter}."))
        if f".{part.weight}." in name and wide is not None:
            wide.weight_loader(wide, weight, part.shard)
            return True
    whole = parameters.get(name)
    if whole is None:
        return False
    getattr(whole, "weight_loader", default_weight_loader)(whole, weight)
    return True
