"""``sglang.srt.model_executor.model_runner_components.weight_updater``: new weights for a served model.

Facts: SGLang 0.5.16 and 0.5.23, srt/model_executor/model_runner_components/weight_updater.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._weights import load_from_disk, load_tensors

__all__ = ["WeightUpdater"]


@dataclass(frozen=True)
class WeightUpdater:
    """Puts weights into a runner's model while it is served; SGLang makes it of more, none of it a platform's."""

    model_runner: Any
    tp_rank: int

    def update_weights_from_tensor(
        self, named_tensors: list[tuple[str, Any]], load_format: str | None = None
    ) -> tuple[bool, str]:
        """Put these weights in place; graphs go on reading the same memory."""
        return load_tensors(self.model_runner, named_tensors, load_format, self.tp_rank)

    def update_weights_from_disk(
        self,
        model_path: str,
        load_format: str,
        weight_name_filter: Callable[[str], bool] | None = None,
        recapture_cuda_graph: bool = False,
    ) -> tuple[bool, str]:
        """Put the weights of a folder in place, and capture graphs anew where that is asked for."""
        recapture = self.model_runner.init_decode_cuda_graph if recapture_cuda_graph else None
        return load_from_disk(self.model_runner, model_path, load_format, weight_name_filter, recapture)
