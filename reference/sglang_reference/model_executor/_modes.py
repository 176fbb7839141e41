"""What kind of forward pass a batch is for, and what it returns besides logits.

Facts: SGLang 0.5.11 to 0.5.23, srt/model_executor/forward_batch_info.py.
"""

from __future__ import annotations

from enum import IntEnum, auto
from functools import total_ordering
from typing import Any

from .._contract import since
from .._released import Lifetime, Parameters, released


class ForwardMode(IntEnum):
    """What kind of forward pass a batch is for."""

    EXTEND = auto()
    DECODE = auto()
    MIXED = auto()
    IDLE = auto()
    TARGET_VERIFY = auto()
    if not since("0.5.14"):
        DRAFT_EXTEND = auto()
    DRAFT_EXTEND_V2 = auto()
    PREBUILT = auto()
    SPLIT_PREFILL = auto()
    DLLM_EXTEND = auto()

    @released(Parameters({"include_draft_extend_v2": Lifetime("0.5.12")}))
    def is_prefill(self, include_draft_extend_v2: bool = False) -> bool:
        """The same as :meth:`is_extend`."""
        return self.is_extend(include_draft_extend_v2=bool(include_draft_extend_v2))

    def is_extend(self, include_draft_extend_v2: bool = False) -> bool:
        """Whether sequences grow by several tokens, or may."""
        return self.name in _EXTENDING or self._drafts(include_draft_extend_v2)

    def is_context_parallel_extend(self, include_draft_extend_v2: bool = False) -> bool:
        """Whether context parallelism takes part in an extension."""
        return self.name in ("EXTEND", "MIXED") or (include_draft_extend_v2 and self.is_draft_extend_v2())

    def is_decode(self) -> bool:
        """Whether each sequence grows by one token."""
        return self == ForwardMode.DECODE

    def is_mixed(self) -> bool:
        """Whether some sequences extend and others decode."""
        return self == ForwardMode.MIXED

    def is_idle(self) -> bool:
        """Whether there is no sequence."""
        return self == ForwardMode.IDLE

    def is_decode_or_idle(self) -> bool:
        """Whether no sequence extends."""
        return self.is_decode() or self.is_idle()

    def is_target_verify(self) -> bool:
        """Whether drafted tokens are verified."""
        return self == ForwardMode.TARGET_VERIFY

    if not since("0.5.14"):

        def is_draft_extend(self, include_v2: bool = False) -> bool:
            """Whether a draft model extends."""
            return self.name == "DRAFT_EXTEND" or (include_v2 and self.is_draft_extend_v2())

    def is_draft_extend_v2(self) -> bool:
        """Whether a draft model extends in the second way."""
        return self == ForwardMode.DRAFT_EXTEND_V2

    def is_extend_or_draft_extend_or_mixed(self, include_draft_extend_v2: bool = False) -> bool:
        """Whether sequences extend, drafted ones among them, without verification."""
        return self.name in ("EXTEND", "DRAFT_EXTEND", "MIXED", "SPLIT_PREFILL") or (
            include_draft_extend_v2 and self.is_draft_extend_v2()
        )

    def is_cuda_graph(self) -> bool:
        """Whether a device graph may serve the pass."""
        return self.name in ("DECODE", "TARGET_VERIFY", "IDLE", "DLLM_EXTEND")

    def is_cpu_graph(self) -> bool:
        """Whether a compiled graph on the CPU may."""
        return self.is_decode()

    def is_dllm_extend(self) -> bool:
        """Whether a diffusion model's block extends."""
        return self == ForwardMode.DLLM_EXTEND

    def is_split_prefill(self) -> bool:
        """Whether a prefill goes some layers at a time."""
        return self == ForwardMode.SPLIT_PREFILL

    def is_extend_without_speculative(self) -> bool:
        """Whether sequences extend and none is verified."""
        return self.is_extend() and not self.is_target_verify()

    def is_prebuilt(self) -> bool:
        """Whether the keys and values came from elsewhere."""
        return self == ForwardMode.PREBUILT

    def _drafts(self, counts: bool) -> bool:
        return counts and self.is_draft_extend_v2()


_EXTENDING = frozenset(["EXTEND", "MIXED", "DRAFT_EXTEND", "TARGET_VERIFY", "SPLIT_PREFILL", "DLLM_EXTEND"])


@total_ordering
class CaptureHiddenMode(IntEnum):
    """Which hidden states a forward pass returns."""

    NULL = 0
    LAST = 1
    FULL = 2

    def need_capture(self) -> bool:
        """Whether any."""
        return self != CaptureHiddenMode.NULL

    def is_full(self) -> bool:
        """Whether those of all tokens."""
        return self == CaptureHiddenMode.FULL

    def is_last(self) -> bool:
        """Whether those of the last tokens."""
        return self == CaptureHiddenMode.LAST

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < other.value)


for _mode in (ForwardMode, CaptureHiddenMode):
    _mode.__module__ = "sglang.srt.model_executor.forward_batch_info"  # as hooks, messages and pickling name them
