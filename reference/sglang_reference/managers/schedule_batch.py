"""``sglang.srt.managers.schedule_batch``: requests, and batches of them."""

from __future__ import annotations

from .._released import Lifetime, withdraw
from ._batch import ModelWorkerBatch, NextBatchPlan, ScheduleBatch
from ._finish import FINISH_ABORT, FINISH_LENGTH, FINISH_MATCHED_TOKEN, BaseFinishReason
from ._kv_info import ReqKvInfo
from ._request import Req

__all__ = [
    "FINISH_ABORT",
    "FINISH_LENGTH",
    "FINISH_MATCHED_TOKEN",
    "BaseFinishReason",
    "ModelWorkerBatch",
    "NextBatchPlan",
    "Req",
    "ReqKvInfo",
    "ScheduleBatch",
]

_ABSENT = withdraw(
    globals(),
    {
        "ModelWorkerBatch": Lifetime(gone="0.5.13"),
        "NextBatchPlan": Lifetime("0.5.16"),
        "ReqKvInfo": Lifetime("0.5.16"),
    },
)
