"""``sglang.srt.configs.load_config``: in what form weights are read.

Facts: SGLang 0.5.11 to 0.5.23, srt/configs/load_config.py.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Any

from sglang_reference._errors import not_covered

from .._partial import Partial

__all__ = ["LoadConfig", "LoadFormat"]


class LoadFormat(str, enum.Enum):
    """The forms that the reference reads, of SGLang's."""

    AUTO = "auto"
    PT = "pt"
    DUMMY = "dummy"


@dataclass
class LoadConfig(Partial):
    """How to load a model: the form, or a loader class, and what it is told besides (a dict, or one in JSON)."""

    load_format: Any = LoadFormat.AUTO
    download_dir: str | None = None
    model_loader_extra_config: Any = field(default_factory=dict)
    ignore_patterns: Any = None
    tp_rank: int | None = None
    draft_model_idx: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model_loader_extra_config, str):
            self.model_loader_extra_config = json.loads(self.model_loader_extra_config)
        if isinstance(self.load_format, str):
            known = [each.value for each in LoadFormat]
            if str(getattr(self.load_format, "value", self.load_format)).lower() not in known:
                raise not_covered(f"the load format {self.load_format}")
            self.load_format = LoadFormat(self.load_format.lower())
        if not self.ignore_patterns:
            self.ignore_patterns = ["original/**/*"]
