"""What is done where the pools are full: requests give back what they hold, and begin anew later.

Facts: SGLang 0.5.11 and 0.5.23, srt/managers/schedule_batch.py. The request that has said least gives way first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mem_cache import _requests
from . import _keeping
from ._estimates import RETRACT_STEPS, expected_after_retraction
from ._finish import FINISH_ABORT

if TYPE_CHECKING:
    from ._batch import ScheduleBatch
    from ._request import Req


def retract_decode(batch: ScheduleBatch) -> tuple[list[Req], float, list[Req]]:
    """As :meth:`ScheduleBatch.retract_decode`."""
    order = sorted(range(len(batch.reqs)), key=lambda place: _said(batch.reqs[place]), reverse=True)
    retracted: list[Req] = []
    aborted: list[Req] = []
    while len(order) > 1 and (not retracted or not batch.check_decode_mem(selected_indices=order)):
        req = batch.reqs[order.pop()]
        take_back(batch, req, len(order))
        retracted.append(req)
    if len(order) <= 1 and not batch.check_decode_mem(selected_indices=order):
        req = batch.reqs[order.pop()]
        req.to_finish = FINISH_ABORT("Out of memory even after all other requests of the batch were retracted.", 500)
        aborted.append(req)
        take_back(batch, req, 0)
    batch.filter_batch(keep_indices=order)
    return retracted, expected_after_retraction(batch.reqs), aborted


def take_back(batch: ScheduleBatch, req: Req, remaining: int) -> None:
    """Take back what a request holds, none of it for the tree cache, and make room for the ``remaining`` others."""
    _requests.give_back(req, batch.tree_cache, kept=False)
    _keeping.make_room(batch.tree_cache, remaining * RETRACT_STEPS)
    req.reset_for_retract()


def _said(req: Req) -> tuple[int, int]:
    return len(req.output_ids), -len(req.origin_input_ids)
