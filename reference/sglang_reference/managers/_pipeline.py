"""A batch through the stages of a pipeline: hidden states from each to the next, then the next tokens back to all.

One batch at a time is under way. Facts: SGLang 0.5.11 and 0.5.23, srt/managers/scheduler_pp_mixin.py, whose stages
work on several batches at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..model_executor.forward_batch_info import PPProxyTensors

if TYPE_CHECKING:
    from ._batch import ScheduleBatch
    from .utils import GenerationBatchResult


def run(scheduler: Any, batch: ScheduleBatch) -> GenerationBatchResult:
    """As ``run_batch``, on this rank's stage: with the next tokens, whichever stage it is."""
    group = scheduler.pp_group
    proxies = (
        None if group.is_first_rank else PPProxyTensors(group.recv_tensor_dict(all_gather_group=scheduler.tp_group))
    )
    result: GenerationBatchResult = scheduler.run_batch(batch, proxies)
    if group.is_last_rank:
        _pass_on(group, result.next_token_ids)
        return result
    assert result.pp_hidden_states_proxy_tensors is not None
    group.send_tensor_dict(result.pp_hidden_states_proxy_tensors.tensors, all_gather_group=scheduler.tp_group)
    received = group.recv_tensor_dict(src=(group.rank_in_group - 1) % group.world_size)
    result.next_token_ids = received["next_token_ids"]
    batch.input_ids = result.next_token_ids.to(torch.int64)
    if group.rank_in_group < group.world_size - 2:
        _pass_on(group, result.next_token_ids)
    return result


def _pass_on(group: Any, tokens: torch.Tensor) -> None:
    """Send the next tokens to the stage behind, which is the first one behind the last."""
    group.send_tensor_dict({"next_token_ids": tokens}, dst=(group.rank_in_group + 1) % group.world_size)
