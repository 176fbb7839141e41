"""``sglang.srt.sampling.sampling_params``: how a request wants its tokens chosen, and when it ends.

Penalties, grammars, text that ends a request, biases and several answers are refused. Facts: SGLang 0.5.11, 0.5.15 and
0.5.23, srt/sampling/sampling_params.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sglang_reference._errors import not_covered

from .._contract import since
from .._partial import Partial

TOP_K_ALL = 1 << 30
_SAMPLING_EPS = 1e-6
_SERVED: dict[str, Any] = {
    "stop": None,
    "stop_regex": None,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_new_tokens": 0,
    "n": 1,
    "json_schema": None,
    "regex": None,
    "ebnf": None,
    "structural_tag": None,
    "logit_bias": None,
}


@dataclass
class SamplingParams(Partial):
    """One request's wishes. A temperature of 0 is greedy; ``top_k`` -1 is the whole vocabulary."""

    max_new_tokens: int | None = 128
    stop: str | list[str] | None = None
    stop_token_ids: Collection[int] | None = None
    stop_regex: str | list[str] | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = TOP_K_ALL if since("0.5.15") else -1
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    n: int = 1
    json_schema: str | None = None
    regex: str | None = None
    ebnf: str | None = None
    structural_tag: str | None = None
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    no_stop_trim: bool = False
    custom_params: dict[str, Any] | None = None
    stream_interval: int | None = None
    logit_bias: dict[str, float] | None = None
    sampling_seed: int | None = None

    def __post_init__(self) -> None:
        for name, served in _SERVED.items():
            if getattr(self, name) not in (served, None, "", []):
                raise not_covered(f"the sampling parameter {name}")
        self.stop_token_ids = {int(token) for token in self.stop_token_ids or ()} or None
        self.stop_strs: list[str] = []
        self.stop_regex_strs: list[str] = []
        self.stop_str_max_len = 0
        self.stop_regex_max_len = 0
        # As in a request that names it without a value.
        self.temperature = 1.0 if self.temperature is None else self.temperature
        self.top_p = 1.0 if self.top_p is None else self.top_p
        self.top_k = -1 if self.top_k is None else self.top_k
        self.min_p = 0.0 if self.min_p is None else self.min_p
        if 0 <= self.temperature < _SAMPLING_EPS:
            self.temperature, self.top_k = 1.0, 1
        if self.top_k == -1:
            self.top_k = TOP_K_ALL

    def verify(self, vocab_size: int) -> None:
        """Raise ValueError for what cannot be sampled with."""
        wrong = {
            "temperature is a number of 0 or more": math.isfinite(self.temperature) and self.temperature >= 0,
            "top_p is above 0, and 1 at most": 0.0 < self.top_p <= 1.0,
            "min_p is from 0 to 1": 0.0 <= self.min_p <= 1.0,
            "top_k is 1 or more, or -1": self.top_k >= 1,
            "max_new_tokens is 0 or more": self.max_new_tokens is None or self.max_new_tokens >= 0,
        }
        broken = [rule for rule, holds in wrong.items() if not holds]
        if broken:
            raise ValueError(f"sampling parameters: {'; '.join(broken)}; these are {self}")

    def normalize(self, tokenizer: Any) -> None:
        """Work out what ends a request by its text, which is nothing here."""
