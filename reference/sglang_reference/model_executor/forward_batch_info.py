"""``sglang.srt.model_executor.forward_batch_info``: what a forward pass is given.

Facts: SGLang 0.5.11 to 0.5.23, srt/model_executor/forward_batch_info.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ..utils.common import is_pin_memory_available
from ._batch_fields import ABSENT, unused
from ._modes import CaptureHiddenMode, ForwardMode

__all__ = [
    "CaptureHiddenMode",
    "ForwardBatch",
    "ForwardMode",
    "PPProxyTensors",
    "compute_position",
    "compute_position_torch",
]


@dataclass
class ForwardBatch(Partial):
    """All inputs of one forward pass, on the device, with the host's copies of lengths (``…_cpu``).

    ``seq_lens`` count the tokens of this pass too; ``out_cache_loc`` is where their keys and values go.
    """

    forward_mode: ForwardMode
    batch_size: int
    input_ids: torch.Tensor
    req_pool_indices: torch.Tensor
    seq_lens: torch.Tensor
    out_cache_loc: torch.Tensor
    seq_lens_sum: int
    orig_seq_lens: torch.Tensor | None = None
    seq_lens_cpu: torch.Tensor | None = None
    return_logprob: bool = False
    top_logprobs_nums: list[int] | None = None
    token_ids_logprobs: list[list[int]] | None = None
    next_token_logits_buffer: torch.Tensor | None = None
    temperature: torch.Tensor | None = None
    top_p: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    extend_num_tokens: int | None = None
    extend_seq_lens: torch.Tensor | None = None
    extend_prefix_lens: torch.Tensor | None = None
    extend_start_loc: torch.Tensor | None = None
    extend_prefix_lens_cpu: list[int] | None = None
    extend_seq_lens_cpu: list[int] | None = None
    extend_logprob_start_lens_cpu: list[int] | None = None
    extend_input_logprob_token_ids_gpu: torch.Tensor | None = None
    hidden_states: torch.Tensor | None = None
    residual: torch.Tensor | None = None
    residual_stream: Any = None
    split_index: int = 0
    mm_inputs: list[Any] | None = None
    encoder_lens: torch.Tensor | None = None
    encoder_lens_cpu: list[int] | None = None
    encoder_out_cache_loc: torch.Tensor | None = None
    lora_ids: list[str] | None = None
    input_embeds: torch.Tensor | None = None
    sampling_info: Any = None
    req_to_token_pool: Any = None
    token_to_kv_pool: Any = None
    attn_backend: Any = None
    global_num_tokens_cpu: list[int] | None = None
    global_num_tokens_gpu: torch.Tensor | None = None
    is_extend_in_batch: bool = False
    can_run_dp_cuda_graph: bool = False
    can_run_decode_cuda_graph: bool = False
    global_forward_mode: ForwardMode | None = None
    is_prefill_only: bool = False
    spec_info: Any = None
    spec_algorithm: Any = None
    capture_hidden_mode: CaptureHiddenMode | None = None
    padded_static_len: int = -1
    num_token_non_padded: torch.Tensor | None = None
    num_token_non_padded_cpu: int | None = None
    global_num_token_non_padded_cpu: int | None = None
    mrope_positions: torch.Tensor | None = None
    tbo_split_seq_index: int | None = None
    tbo_children: list[ForwardBatch] | None = None
    return_hidden_states_before_norm: bool = False
    return_pooled_hidden_states: bool = False
    rids: list[str] | None = None
    forward_metadata_ready: bool = False

    def __post_init__(self) -> None:
        for name in ABSENT:
            vars(self).pop(name, None)

    @classmethod
    @released(
        Parameters(
            {
                "capture_hidden_mode": Lifetime("0.5.16"),
                "return_hidden_states_before_norm": Lifetime("0.5.16"),
                **dict.fromkeys(
                    ("extend_position_info", "spec_mrope_positions", "kv_loc_plan", "write_cols"), Lifetime("0.5.22")
                ),
            }
        )
    )
    def init_new(
        cls,
        batch: Any,
        model_runner: Any,
        *,
        capture_hidden_mode: CaptureHiddenMode | None = None,
        return_hidden_states_before_norm: bool,
        extend_position_info: Any = None,
        spec_mrope_positions: torch.Tensor | None = None,
        kv_loc_plan: Any = None,
        write_cols: Any = None,
    ) -> ForwardBatch:
        """The inputs of a batch that the scheduler made: its own tensors, and positions and lengths from its lists.

        Raises AssertionError where a batch that extends has no lists of lengths.
        """
        if extend_position_info is not None or spec_mrope_positions is not None:
            raise not_covered("ForwardBatch.init_new with positions from elsewhere")
        if kv_loc_plan is not None or write_cols is not None:
            raise not_covered("ForwardBatch.init_new with a plan of several passes over the same slots")
        told = {name: value for name in _TAKEN if (value := getattr(batch, name, None)) is not None}
        made = cls(
            forward_mode=batch.forward_mode,
            batch_size=len(batch.seq_lens),
            input_ids=batch.input_ids,
            req_pool_indices=batch.req_pool_indices,
            seq_lens=batch.seq_lens,
            out_cache_loc=batch.out_cache_loc,
            seq_lens_sum=_sum(batch),
            return_hidden_states_before_norm=bool(return_hidden_states_before_norm),
            rids=[request.rid for request in batch.reqs],
            **told,
        )
        if capture_hidden_mode is not None or made.capture_hidden_mode is None:
            made.capture_hidden_mode = capture_hidden_mode or CaptureHiddenMode.NULL
        tokens = 0 if batch.input_ids is None else len(batch.input_ids)
        setattr(made, "global_num_token_non_padded_cpu" if since("0.5.20") else "num_token_non_padded_cpu", tokens)
        if not since("0.5.13"):
            made.req_to_token_pool = model_runner.req_to_token_pool
            made.token_to_kv_pool = model_runner.token_to_kv_pool
            made.attn_backend = model_runner.attn_backend
        made._place(batch, model_runner)
        return made

    def _place(self, batch: Any, model_runner: Any) -> None:
        """Positions of the tokens, and where a batch that extends begins."""
        if self.forward_mode.is_idle():
            self.positions = torch.empty((0,), dtype=torch.int64, device=model_runner.device)
            return
        if self.forward_mode.is_decode_or_idle() or self.forward_mode.is_target_verify():
            self.positions = (batch.seq_lens - 1).clamp(min=0).to(torch.int64)
            return
        lengths, prefixes = _LENGTHS
        extended, kept = getattr(batch, lengths), getattr(batch, prefixes)
        assert isinstance(extended, list), f"the batch's {lengths} are no list"
        assert isinstance(kept, list), f"the batch's {prefixes} are no list"
        self.extend_seq_lens_cpu, self.extend_prefix_lens_cpu = list(extended), list(kept)
        pin = is_pin_memory_available(model_runner.device) if since("0.5.19") else False
        self.extend_seq_lens, self.extend_prefix_lens = (
            torch.tensor(each, dtype=torch.int32, pin_memory=pin).to(batch.seq_lens.device, non_blocking=True)
            for each in (extended, kept)
        )
        self.extend_num_tokens = batch.extend_num_tokens
        backend = (
            model_runner.prefill_attention_backend_str
            if since("0.5.18")
            else model_runner.server_args.attention_backend
        )
        self.positions, self.extend_start_loc = compute_position(
            backend, self.extend_prefix_lens, self.extend_seq_lens, batch.extend_num_tokens
        )
        self.extend_logprob_start_lens_cpu = getattr(batch, "extend_logprob_start_lens", None)

    if since("0.5.13"):

        def mark_forward_metadata_ready(self, replan_equivalent: bool = False) -> None:
            """Say that the attention backend has been told of the batch already."""
            self.forward_metadata_ready = True

        def needs_forward_metadata_init(self) -> bool:
            """Whether the attention backend still has to be told."""
            return not self.forward_metadata_ready


for _name in ABSENT:
    delattr(ForwardBatch, _name)
    del ForwardBatch.__dataclass_fields__[_name]
for _name, _value in unused().items():
    setattr(ForwardBatch, _name, _value)

# The lists of how much a batch extends by, and from where: a ModelWorkerBatch's, then the ScheduleBatch's own.
_LENGTHS = ("extend_lens", "prefix_lens") if since("0.5.13") else ("extend_seq_lens", "extend_prefix_lens")
# What is taken over as it is, where the scheduler's batch has it.
_TAKEN = (
    "seq_lens_cpu",
    "orig_seq_lens",
    "return_logprob",
    "top_logprobs_nums",
    "token_ids_logprobs",
    "is_extend_in_batch",
    "is_prefill_only",
    "global_forward_mode",
    "sampling_info",
    "spec_info",
    "spec_algorithm",
    "input_embeds",
    *(() if since("0.5.16") else ("capture_hidden_mode",)),
)


def _sum(batch: Any) -> int:
    """The sum of all lengths, which a schedule's batch may leave to be computed."""
    if batch.seq_lens_sum is None:
        return int((batch.seq_lens if batch.seq_lens_cpu is None else batch.seq_lens_cpu).sum())
    total: int = batch.seq_lens_sum
    return total


class PPProxyTensors:
    """What one stage of a pipeline hands to the next: tensors by name, sliced together."""

    tensors: dict[str, torch.Tensor]

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, key: str | slice) -> Any:
        if isinstance(key, str):
            return self.tensors[key]
        return self.__class__({name: tensor[key] for name, tensor in self.tensors.items()})

    def __setitem__(self, key: str, value: torch.Tensor) -> None:
        self.tensors[key] = value

    def __len__(self) -> int:
        return len(self.tensors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PPProxyTensors) and self.tensors.keys() == other.tensors.keys()

    def __repr__(self) -> str:
        return f"PPProxyTensors(tensors={self.tensors})"


def compute_position(
    attn_backend: str, extend_prefix_lens: torch.Tensor, extend_seq_lens: torch.Tensor, extend_seq_lens_sum: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The position of each new token in its sequence, and where each sequence's new tokens begin.

    ``attn_backend`` decides in SGLang whether a Triton kernel does this; the reference has none.
    """
    ends = torch.cumsum(extend_seq_lens, dim=0)
    starts = ends - extend_seq_lens
    shift = torch.repeat_interleave(extend_prefix_lens - starts, extend_seq_lens, output_size=extend_seq_lens_sum)
    positions = torch.arange(extend_seq_lens_sum, device=extend_seq_lens.device) + shift
    return positions.to(torch.int64), starts.to(extend_seq_lens.dtype)


def compute_position_torch(
    extend_prefix_lens: torch.Tensor, extend_seq_lens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, where the number of new tokens is to be asked of the device."""
    return compute_position("torch_native", extend_prefix_lens, extend_seq_lens, int(extend_seq_lens.sum()))
