"""Layers of a model, made by number: those of a pipeline's stage, with placeholders for the others.

Facts: SGLang 0.5.11, 0.5.21 and 0.5.22, srt/utils/common.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._released import Lifetime, Parameters, released

if TYPE_CHECKING:
    from torch.nn import Module


def add_prefix(name: str, prefix: str) -> str:
    """A module's name below the one that it is in."""
    return f"{prefix}.{name}" if prefix else name


@released(Parameters({"final_read": Lifetime("0.5.22"), "stage_facts": Lifetime("0.5.22")}))
def make_layers(
    num_hidden_layers: int,
    layer_fn: Callable[..., Module],
    pp_rank: int | None = None,
    pp_size: int | None = None,
    prefix: str = "",
    return_tuple: bool = False,
    offloader_kwargs: dict[str, Any] | None = None,
    final_read: Any = None,
    stage_facts: Any = None,
) -> Any:
    """The layers that ``layer_fn(idx=…, prefix=…)`` makes; of a pipeline's stage also its first, and the one after it.

    Without a stage all layers are made, and returned alone. What is said of offloading and of the boundaries between
    layers is not needed here. Raises AssertionError where there are fewer layers than stages.
    """
    from torch.nn import ModuleList

    from ..distributed.utils import get_pp_indices
    from ..layers.utils.common import PPMissingLayer

    assert not pp_size or num_hidden_layers >= pp_size, f"{num_hidden_layers} layers are too few for {pp_size} stages"
    first, last = 0, num_hidden_layers
    if pp_rank is not None and pp_size is not None:
        first, last = get_pp_indices(num_hidden_layers, pp_rank, pp_size)
    made = ModuleList(
        layer_fn(idx=index, prefix=add_prefix(str(index), prefix))
        if first <= index < last
        else PPMissingLayer(return_tuple=return_tuple)
        for index in range(num_hidden_layers)
    )
    return made if pp_rank is None or pp_size is None else (made, first, last)


for _function in (add_prefix, make_layers):
    _function.__module__ = "sglang.srt.utils.common"  # as hooks and tracebacks name it
