"""A model runner of the reference on this machine, one process alone, and greedy decoding through it."""

from __future__ import annotations

import importlib
import inspect
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def server_args(folder: Path, **given: Any) -> Any:
    """Arguments for that model, resolved and published as a scheduler's process does."""
    module = importlib.import_module("sglang.srt.server_args")
    usual = {
        "dtype": "float32",
        "random_seed": 1,
        "max_total_tokens": 512,
        "max_running_requests": 8,
        "mem_fraction_static": 0.5,
    }
    made = module.ServerArgs(str(folder), **{**usual, **given})
    if hasattr(made, "resolve_once"):
        made.resolve_once()
    made.check_server_args()
    return made


def runner(args: Any, number: int = 0) -> Any:
    """A rank's model runner with its pools, attention backend and graphs, as the release's worker makes it."""
    values = importlib.import_module("sglang.srt._arguments.resolving").settled(args)
    module = importlib.import_module("sglang.srt.model_executor.model_runner")
    config = importlib.import_module("sglang.srt.configs.model_config").ModelConfig.from_server_args(args)
    port = free_port()
    told: dict[str, Any] = {
        "model_config": config,
        "mem_fraction_static": values.mem_fraction_static,
        "gpu_id": number,
        "nccl_port": port,
        "server_args": args,
        **{f"{name}_rank": 0 for name in ("pp", "moe_ep", "attn_cp")},
        **{f"{name}_size": 1 for name in ("pp", "moe_ep")},
        "tp_rank": number,
        "tp_size": values.tp_size,
    }
    taken = inspect.signature(module.ModelRunner).parameters
    if "ps" in taken:
        state = importlib.import_module("sglang.srt.distributed.parallel_state_wrapper").ParallelState
        sizes = {"tp_size": values.tp_size, "attn_tp_size": values.tp_size}
        told["ps"] = state.trivial(tp_rank=number, attn_tp_rank=number, gpu_id=number, **sizes)
    elif "tp_rank" not in taken:
        context = importlib.import_module("sglang.srt.runtime_context")
        context.publish(args, role="scheduler", ranks=context.SpawnRanks(world_rank=number, gpu_id=number))
        bootstrap = importlib.import_module("sglang.srt.distributed.bootstrap")
        bootstrap.init_parallel_runtime(server_args=args, device=values.device, dist_port=port)
    made = module.ModelRunner(**{name: value for name, value in told.items() if name in taken})
    for step in ("alloc_memory_pool", "init_attention_backends", "init_cuda_graphs"):
        if hasattr(module.ModelRunner, step):
            getattr(made, step)()
    return made


def leave() -> None:
    """Destroy the groups."""
    state = importlib.import_module("sglang.srt.distributed.parallel_state")
    state.destroy_model_parallel()
    state.destroy_distributed_environment()
    bootstrap = sys.modules.get("sglang.srt.distributed.bootstrap")
    if bootstrap is not None and hasattr(bootstrap, "reset_parallel_initialised"):
        bootstrap.reset_parallel_initialised()


@contextmanager
def serving(folder: Path, **given: Any) -> Iterator[Any]:
    """A runner for a while."""
    try:
        yield runner(server_args(folder, **given))
    finally:
        leave()


class Batch:
    """Requests that decode together; ``logits`` are those of the last pass, ``graphs`` says which passes were one."""

    def __init__(self, made: Any, prompts: Sequence[Sequence[int]]) -> None:
        self.runner = made
        self.tokens = [list(prompt) for prompt in prompts]
        self.rows = torch.arange(1, len(prompts) + 1, device=made.device)
        self.graphs: list[bool] = []
        self.logits = torch.empty(0)

    def prefill(self) -> None:
        """Take in the prompts, and add a token to each."""
        lengths = [len(tokens) for tokens in self.tokens]
        places = [self._places(length) for length in lengths]
        for row, own in zip(self.rows.tolist(), places, strict=True):
            self._table()[row, : len(own)] = own.to(torch.int32)
        device = self.runner.device
        self._pass(
            forward_mode=_modes().EXTEND,
            input_ids=torch.tensor([token for tokens in self.tokens for token in tokens], device=device),
            seq_lens=torch.tensor(lengths, device=device),
            seq_lens_cpu=torch.tensor(lengths),
            out_cache_loc=torch.cat(places),
            positions=torch.cat([torch.arange(length, device=device) for length in lengths]),
            extend_num_tokens=sum(lengths),
            extend_seq_lens=torch.tensor(lengths, device=device, dtype=torch.int32),
            extend_prefix_lens=torch.zeros(len(lengths), device=device, dtype=torch.int32),
            extend_start_loc=torch.tensor([sum(lengths[:n]) for n in range(len(lengths))], device=device),
            extend_prefix_lens_cpu=[0] * len(lengths),
            extend_seq_lens_cpu=lengths,
            extend_logprob_start_lens_cpu=[0] * len(lengths),
        )

    def decode(self) -> None:
        """Add a token to each."""
        lengths = [len(tokens) for tokens in self.tokens]
        places = self._places(len(self.tokens))
        device = self.runner.device
        seq_lens = torch.tensor(lengths, device=device)
        self._table()[self.rows, seq_lens - 1] = places.to(torch.int32)
        self._pass(
            forward_mode=_modes().DECODE,
            input_ids=torch.tensor([tokens[-1] for tokens in self.tokens], device=device),
            seq_lens=seq_lens,
            seq_lens_cpu=torch.tensor(lengths),
            out_cache_loc=places,
            positions=seq_lens - 1,
        )

    def _pass(self, **given: Any) -> None:
        batch = importlib.import_module("sglang.srt.model_executor.forward_batch_info").ForwardBatch(
            batch_size=len(self.tokens),
            req_pool_indices=self.rows,
            seq_lens_sum=int(given["seq_lens_cpu"].sum()),
            capture_hidden_mode=importlib.import_module(
                "sglang.srt.model_executor.forward_batch_info"
            ).CaptureHiddenMode.NULL,
            **given,
            **self._pools(),
        )
        with torch.no_grad():
            output = self.runner.forward(batch)
        self.graphs.append(output.can_run_graph)
        self.logits = output.logits_output.next_token_logits.float().cpu()
        for tokens, chosen in zip(self.tokens, self.logits.argmax(-1).tolist(), strict=True):
            tokens.append(chosen)

    def _pools(self) -> dict[str, Any]:
        from sglang.srt._contract import since

        if since("0.5.13"):
            return {}
        return {name: getattr(self.runner, name) for name in ("req_to_token_pool", "token_to_kv_pool", "attn_backend")}

    def _places(self, count: int) -> torch.Tensor:
        places: torch.Tensor = self.runner.token_to_kv_pool_allocator.alloc(count)
        return places

    def _table(self) -> torch.Tensor:
        table: torch.Tensor = self.runner.req_to_token_pool.req_to_token
        return table


def _modes() -> Any:
    return importlib.import_module("sglang.srt.model_executor.forward_batch_info").ForwardMode
