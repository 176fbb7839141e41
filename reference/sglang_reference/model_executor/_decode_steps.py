"""What SGLang's runners of captured decode steps have in common: which sizes, on what memory, and what comes out.

A step is captured on buffers of the largest batch, each size using the first rows. A batch is replayed at the next
size that was captured: its rows are copied in, the rest are made a request of the fill length whose token goes where
nobody reads. Facts: SGLang 0.5.11, srt/model_executor/cuda_graph_runner.py; 0.5.23,
srt/model_executor/runner/decode_cuda_graph_runner.py.
"""

from __future__ import annotations

import bisect
import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .._arguments import capture
from .._arguments.resolving import settled
from .._contract import since
from .._partial import Partial
from ..distributed._own_groups import group
from ..utils.common import get_available_gpu_memory
from . import _eager
from .forward_batch_info import CaptureHiddenMode, ForwardBatch, ForwardMode, PPProxyTensors

logger = logging.getLogger("sglang.srt.model_executor.cuda_graph_runner")

WARM_UPS = 2  # runs before a capture, so that what a first run sets up is not captured
ADVICE = (
    "Possible solutions: set mem_fraction_static to a smaller value, capture fewer or smaller batches, "
    "or switch graphs off"
)


@dataclasses.dataclass(frozen=True)
class Buffers:
    """The inputs of a step, for the largest batch; ``proxies`` is what an earlier stage of a pipeline gives."""

    input_ids: torch.Tensor
    req_pool_indices: torch.Tensor
    seq_lens: torch.Tensor
    seq_lens_cpu: torch.Tensor
    out_cache_loc: torch.Tensor
    positions: torch.Tensor
    proxies: dict[str, torch.Tensor]

    @staticmethod
    def of(runner: Any, most: int, fill: int) -> Buffers:
        """Buffers on the runner's device, in the state of requests that only fill up."""
        device, config = runner.device, runner.model_config

        def zeros(kind: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.zeros((most,), dtype=kind, device=device)

        lengths = torch.int64 if since("0.5.13") else torch.int32
        staged = () if group("pp").is_first_rank else ("hidden_states", "residual")
        return Buffers(
            input_ids=zeros(),
            req_pool_indices=zeros(),
            seq_lens=torch.full((most,), fill, dtype=lengths, device=device),
            seq_lens_cpu=torch.full((most,), fill, dtype=lengths),
            out_cache_loc=zeros(),
            positions=zeros(),
            proxies={
                name: torch.zeros((most, config.hidden_size), dtype=config.dtype, device=device) for name in staged
            },
        )

    def load(self, batch: ForwardBatch, size: int, fill: int, proxies: PPProxyTensors | None) -> None:
        """Copy a batch into the first rows, and make those up to ``size`` requests that only fill up."""
        count = batch.batch_size
        if size != count:
            self.seq_lens[count:size].fill_(fill)
            self.seq_lens_cpu[count:size].fill_(fill)
            for buffer in (self.out_cache_loc, self.req_pool_indices, self.input_ids, self.positions):
                buffer[count:size].zero_()
        for name in ("input_ids", "req_pool_indices", "seq_lens", "out_cache_loc", "positions"):
            getattr(self, name)[:count].copy_(getattr(batch, name))
        told = batch.seq_lens_cpu
        self.seq_lens_cpu[:count].copy_(batch.seq_lens.cpu() if told is None else told)
        for name, buffer in self.proxies.items():
            if proxies is not None and name in proxies.tensors:
                buffer[:count].copy_(proxies.tensors[name])


class Steps(Partial):
    """Sizes, buffers and the batch of each size; a subclass captures, and replays, in its release's way."""

    stream: Any

    def __init__(self, model_runner: Any, attn_backend: Any = None) -> None:
        self.model_runner = model_runner
        self.device = model_runner.device
        self.device_module = torch.get_device_module(self.device)
        self.attn_backend = attn_backend or model_runner.attn_backend
        self.disable_padding = settled(model_runner.server_args).disable_cuda_graph_padding
        self.capture_forward_mode = ForwardMode.DECODE
        self.capture_hidden_mode = CaptureHiddenMode.NULL
        self.capture_bs = sizes_to_capture(model_runner)
        self.compile_bs: list[int] = []
        logger.info("Capture cuda graph bs %s", self.capture_bs)
        self.max_bs = self.max_num_token = max(self.capture_bs)
        self.attn_backend.init_cuda_graph_state(self.max_bs, self.max_num_token)
        self.seq_len_fill_value = self.attn_backend.get_cuda_graph_seq_len_fill_value()
        self.buffers = Buffers.of(model_runner, self.max_bs, self.seq_len_fill_value)
        self.bs = self.raw_bs = self.raw_num_token = 0

    def _capture_all(self) -> None:
        """Capture, and say what may help where that fails."""
        try:
            self.capture()
        except RuntimeError as error:
            raise Exception(f"Capture cuda graph failed: {error}\n{ADVICE}") from error

    def capture(self) -> None:
        """Capture every size."""
        raise NotImplementedError

    def _stream_of(self, context: Any) -> Any:
        """The stream to capture on; one of the runner's own where the groups are on another device, as the CPU."""
        on_groups = group("tp").device.type == torch.device(self.device).type
        return context.stream if on_groups else self.device_module.Stream()

    def _largest_first(self) -> Iterator[int]:
        """The sizes in the order of their capture; the first rank asks for memory before each, to tell of it."""
        place = (self.model_runner.device, self.model_runner.gpu_id)
        get_available_gpu_memory(*place, empty_cache=False)
        for size in reversed(self.capture_bs):
            if group("tp").rank_in_group == 0:
                free = get_available_gpu_memory(*place, empty_cache=False)
                logger.info("Capturing batches (bs=%d avail_mem=%.2f GB)", size, free)
            yield size

    def _batch(self, size: int) -> ForwardBatch:
        """The batch of a size, on the first rows of the buffers."""
        buffers = self.buffers
        told: dict[str, Any] = {"orig_seq_lens": buffers.seq_lens[:size]}
        if not since("0.5.13"):
            told["req_to_token_pool"] = self.model_runner.req_to_token_pool
            told["token_to_kv_pool"] = self.model_runner.token_to_kv_pool
            told["attn_backend"] = self.attn_backend
        return ForwardBatch(
            forward_mode=self.capture_forward_mode,
            batch_size=size,
            input_ids=buffers.input_ids[:size],
            req_pool_indices=buffers.req_pool_indices[:size],
            seq_lens=buffers.seq_lens[:size],
            seq_lens_cpu=buffers.seq_lens_cpu[:size],
            out_cache_loc=buffers.out_cache_loc[:size],
            seq_lens_sum=int(buffers.seq_lens_cpu[:size].sum()),
            positions=buffers.positions[:size],
            spec_algorithm=self.model_runner.spec_algorithm,
            capture_hidden_mode=self.capture_hidden_mode,
            global_forward_mode=self.capture_forward_mode,
            **told,
        )

    def _step(self, batch: ForwardBatch, forward: Callable[..., Any] | None = None) -> Callable[[], Any]:
        """What is captured: one forward pass of that batch."""
        run = forward or self.model_runner.model.forward

        def once() -> Any:
            if since("0.5.13"):
                self.attn_backend.init_forward_metadata_in_graph(batch)
            given = {name: buffer[: batch.batch_size].clone() for name, buffer in self.buffers.proxies.items()}
            proxies = PPProxyTensors(given) if given else None
            with _eager.context(self.attn_backend, batch):
                return run(batch.input_ids, batch.positions, batch, **_eager.arguments(self.model_runner, proxies))

        return once

    def _refresh(self, batch: ForwardBatch) -> None:
        """Take in what can have changed of a batch that was loaded before."""
        assert batch.positions is not None
        self.buffers.input_ids[: self.raw_num_token].copy_(batch.input_ids)
        self.buffers.positions[: self.raw_num_token].copy_(batch.positions)

    def _fits(self, batch: ForwardBatch) -> bool:
        """Whether there is a size for the batch; without padding, only its own."""
        return batch.batch_size in self.capture_bs if self.disable_padding else batch.batch_size <= self.max_bs

    def _load(self, batch: ForwardBatch, proxies: PPProxyTensors | None) -> None:
        """Copy a batch in, at the next size that was captured."""
        self.raw_bs = self.raw_num_token = batch.batch_size
        self.bs = self.capture_bs[bisect.bisect_left(self.capture_bs, self.raw_bs)]
        self.buffers.load(batch, self.bs, self.seq_len_fill_value, proxies)

    def _cut(self, output: Any) -> Any:
        """What a replay gave, without the requests that only filled up."""
        if isinstance(output, PPProxyTensors):
            return PPProxyTensors({name: tensor[: self.raw_bs] for name, tensor in output.tensors.items()})
        names = ("next_token_logits", "full_logits", "hidden_states")
        given = {name: getattr(output, name, None) for name in names}
        return dataclasses.replace(output, **{n: each[: self.raw_bs] for n, each in given.items() if each is not None})


def sizes_to_capture(model_runner: Any) -> list[int]:
    """The batch sizes of the arguments, but none above what requests there can be at once."""
    sizes, most = capture.decode_sizes(model_runner.server_args), model_runner.req_to_token_pool.size
    if max(sizes) > most:
        sizes.append(most)
    sizes = sorted({size for size in sizes if size <= most})
    assert min(sizes, default=0) > 0, f"there is no batch size to capture: {sizes}"
    return sizes
