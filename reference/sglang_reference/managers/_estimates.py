"""How many tokens running requests are expected to say: at first much of what they want, then less and less.

Facts: SGLang 0.5.11, srt/managers/scheduler.py; 0.5.23, srt/managers/scheduler_components/new_token_ratio_tracker.py.
"""

from __future__ import annotations

import os
from typing import Any

RETRACT_STEPS = int(os.environ.get("SGLANG_RETRACT_DECODE_STEPS", "20"))
"""For how many steps ahead room is made where requests are retracted."""

CLIP_MAX_NEW_TOKENS = int(os.environ.get("SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION", "4096"))
"""No request is expected to say more."""


class Ratio:
    """The share of the wanted tokens that is expected: ``current``."""

    def __init__(self, conservativeness: float) -> None:
        self.init = min(float(os.environ.get("SGLANG_INIT_NEW_TOKEN_RATIO", "0.7")) * conservativeness, 1.0)
        self.min = min(self.init * float(os.environ.get("SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR", "0.14")), 1.0)
        self.decay = (self.init - self.min) / int(os.environ.get("SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS", "600"))
        self.current = self.init

    def decay_step(self) -> None:
        """A step went well."""
        self.current = max(self.current - self.decay, self.min)

    def reset(self) -> None:
        """Begin anew."""
        self.current = self.init


def wanted(req: Any, ratio: float = 1.0) -> float:
    """How many more tokens a request is expected to say."""
    left: int = req.sampling_params.max_new_tokens - len(req.output_ids)
    return min(max(left, 0), CLIP_MAX_NEW_TOKENS) * (1.0 if req.sampling_params.ignore_eos else ratio)


def expected_after_retraction(reqs: list[Any]) -> float:
    """The share that is expected of the requests that stay."""
    said = sum(len(req.output_ids) for req in reqs)
    most: int = sum(req.sampling_params.max_new_tokens for req in reqs)
    return min(1.0, (said + RETRACT_STEPS * len(reqs)) / (most + 1))
