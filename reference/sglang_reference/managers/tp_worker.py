"""``sglang.srt.managers.tp_worker``: who has a rank's part of the model, and computes batches with it.

Facts: SGLang 0.5.11, 0.5.16 and 0.5.23, srt/managers/tp_worker.py.
"""

from __future__ import annotations

from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._arguments.resolving import settled
from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, Renamed, released
from ..configs.model_config import ModelConfig
from ..distributed._own_groups import group
from ..model_executor.forward_batch_info import ForwardBatch
from ._placing import placed
from .utils import GenerationBatchResult

_OWN_RANKS = Lifetime(gone="0.5.16")
_APART = Lifetime("0.5.14")
_PARAMETERS = Parameters(
    {
        **dict.fromkeys(("tp_rank", "moe_ep_rank", "pp_rank", "attn_cp_rank", "moe_dp_rank", "dp_rank"), _OWN_RANKS),
        "ps": Lifetime("0.5.16", gone="0.5.21"),
        "context_length": Lifetime("0.5.15"),
        "draft_attention_backend": Lifetime("0.5.18"),
        "random_seed": Lifetime("0.5.19"),
        "load_group": Lifetime("0.5.22"),
    }
)


class BaseTpWorker(Partial):
    """What every worker of a rank has."""

    model_runner: Any

    @property
    def is_hybrid_swa(self) -> bool:
        """Whether some layers look back through a window only."""
        return bool(getattr(self.model_runner, "is_hybrid_swa", False))

    @property
    def sliding_window_size(self) -> int | None:
        """How far such a window reaches."""
        size: int | None = self.model_runner.sliding_window_size
        return size

    def get_memory_pool(self) -> tuple[Any, Any]:
        """The pool of rows, and the allocator of slots."""
        return self.model_runner.req_to_token_pool, self.model_runner.token_to_kv_pool_allocator

    def get_pad_input_ids_func(self) -> Any:
        """How the model pads what is not text; None where it has no such thing."""
        return getattr(self.model_runner.model, "pad_input_ids", None)


@placed("tp_worker", **dict.fromkeys(("alloc_memory_pool", "init_attention_backends", "init_cuda_graphs"), _APART))
class TpModelWorker(BaseTpWorker):
    """A rank's worker: it makes the rank's model runner."""

    @released(_PARAMETERS)
    def __init__(
        self,
        server_args: Any,
        gpu_id: int,
        tp_rank: int,
        moe_ep_rank: int,
        pp_rank: int,
        attn_cp_rank: int,
        moe_dp_rank: int,
        dp_rank: int | None,
        ps: Any,
        nccl_port: int,
        is_draft_worker: bool = False,
        req_to_token_pool: Any = None,
        token_to_kv_pool_allocator: Any = None,
        memory_pool_config: Any = None,
        is_multi_layer_eagle: bool = False,
        context_length: int | None = None,
        draft_attention_backend: str | None = None,
        random_seed: int | None = None,
        load_group: Any = None,
    ) -> None:
        if is_draft_worker or is_multi_layer_eagle:
            raise not_covered("a worker of a draft model")
        from ..model_executor.model_runner import ModelRunner

        self.server_args = server_args
        self.gpu_id = gpu_id
        self.nccl_port = nccl_port
        values = settled(server_args)
        self.model_config = ModelConfig.from_server_args(server_args)
        own = {
            "tp_rank": tp_rank,
            "tp_size": values.tp_size,
            "moe_ep_rank": moe_ep_rank,
            "moe_ep_size": values.ep_size,
            "pp_rank": pp_rank,
            "pp_size": values.pp_size,
            "dp_rank": dp_rank,
            "attn_cp_rank": attn_cp_rank,
            "moe_dp_rank": moe_dp_rank,
        }
        state = {} if since("0.5.21") else {"ps": ps} if since("0.5.16") else own
        self._model_runner = ModelRunner(
            model_config=self.model_config,
            mem_fraction_static=values.mem_fraction_static,
            gpu_id=gpu_id,
            nccl_port=nccl_port,
            server_args=server_args,
            is_draft_worker=is_draft_worker,
            req_to_token_pool=req_to_token_pool,
            token_to_kv_pool_allocator=token_to_kv_pool_allocator,
            memory_pool_config=memory_pool_config,
            **state,
        )
        self.device = self._model_runner.device
        self.pp_group = group("pp")
        self.world_group = group("world")
        self.random_seed = self._common_seed(values.random_seed if random_seed is None else random_seed)
        torch.manual_seed(self.random_seed)
        if not since("0.5.14"):
            self._check_room()

    @property
    def model_runner(self) -> Any:
        """The rank's model runner."""
        return self._model_runner

    @released(Parameters({"draft_parallel_layout": Lifetime("0.5.23")}))
    def alloc_memory_pool(
        self,
        memory_pool_config: Any = None,
        req_to_token_pool: Any = None,
        token_to_kv_pool_allocator: Any = None,
        *,
        draft_parallel_layout: Any = None,
    ) -> None:
        """Make the pools."""
        if req_to_token_pool is not None or token_to_kv_pool_allocator is not None:
            raise not_covered("pools shared with another worker")
        self.model_runner.alloc_memory_pool(memory_pool_config)
        self._check_room()

    def init_attention_backends(self) -> None:
        """Make the attention backend."""
        self.model_runner.init_attention_backends()

    def init_cuda_graphs(self, capture_decode_cuda_graph: bool = True) -> None:
        """Capture graphs."""
        self.model_runner.init_cuda_graphs(capture_decode_cuda_graph=capture_decode_cuda_graph)

    def get_worker_info(self) -> tuple[Any, ...]:
        """What the scheduler wants to know: sizes, limits, the seed, the device, and the pools' sizes."""
        runner, values = self.model_runner, settled(self.server_args)
        longest = min(self.model_config.context_len - 1, runner.max_total_num_tokens - 1)
        pools = (runner.req_to_token_pool.size, runner.req_to_token_pool.max_context_len, runner.token_to_kv_pool.size)
        limits = (values.max_prefill_tokens, runner.max_running_requests, values.max_queued_requests)
        stream = getattr(runner, "forward_stream", None)
        first = (runner.max_total_num_tokens, *limits, longest, longest - 5)
        return (*first, self.random_seed, self.device, stream, *pools)

    @released(
        Parameters(
            {"capture_hidden_mode": Lifetime("0.5.16"), "return_kv_loc_plan": Lifetime("0.5.22")},
            renamed={"batch": Renamed("model_worker_batch", "0.5.13")},
        )
    )
    def forward_batch_generation(
        self,
        batch: Any,
        forward_batch: Any = None,
        pp_proxy_tensors: Any = None,
        is_verify: bool = False,
        skip_attn_backend_init: bool | None = None,
        *,
        capture_hidden_mode: Any = None,
        return_kv_loc_plan: bool = False,
    ) -> GenerationBatchResult:
        """Compute a batch; on the last stage also its next tokens."""
        if is_verify or return_kv_loc_plan:
            raise not_covered("verifying what a draft model said")
        if forward_batch is None:
            wanted: dict[str, Any] = {
                "capture_hidden_mode": capture_hidden_mode,
                "return_hidden_states_before_norm": False,
            }
            forward_batch = ForwardBatch.init_new(batch, self.model_runner, **(wanted if since("0.5.16") else {}))
        out = self.model_runner.forward(forward_batch, pp_proxy_tensors=pp_proxy_tensors)
        if not self.pp_group.is_last_rank:
            return GenerationBatchResult(
                pp_hidden_states_proxy_tensors=out.logits_output, can_run_cuda_graph=out.can_run_graph
            )
        return GenerationBatchResult(
            logits_output=out.logits_output,
            next_token_ids=self.model_runner.sample(out.logits_output, forward_batch),
            can_run_cuda_graph=out.can_run_graph,
        )

    def _check_room(self) -> None:
        assert self.model_runner.max_running_requests > 0, "no request may run: max_running_requests is 0"
        assert self.model_runner.max_total_num_tokens > 1, "the pools have no slots for a request"

    def _common_seed(self, seed: int) -> int:
        """The first rank's seed."""
        told: int = self.world_group.broadcast_object(seed, src=0) if self.world_group.world_size > 1 else seed
        return told
