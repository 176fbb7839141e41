"""``sglang.srt.model_executor.runner.eager_runner``: a forward pass of the model itself (0.5.14 and later).

SGLang's copies the batch into memory of its own first; this one does not. Facts: SGLang 0.5.14 and 0.5.23,
srt/model_executor/runner/eager_runner.py.
"""

from __future__ import annotations

from typing import Any

from ..._partial import Partial
from ..._released import Lifetime, Parameters, released
from .. import _eager

__all__ = ["EagerRunner"]


class EagerRunner(Partial):
    """Serves what no graph does."""

    @released(Parameters({"run_warmup": Lifetime("0.5.21")}))
    def __init__(self, model_runner: Any, *, run_warmup: bool = True) -> None:
        self.model_runner = model_runner
        self.device = model_runner.device

    def can_run_graph(self, forward_batch: Any) -> bool:
        """Never: there is no graph here."""
        return False

    def execute(self, forward_batch: Any, pp_proxy_tensors: Any = None, **kwargs: Any) -> Any:
        """Run the model on the batch."""
        with _eager.context(self.model_runner.attn_backend, forward_batch):
            return _eager.forward(self.model_runner, forward_batch, pp_proxy_tensors)
