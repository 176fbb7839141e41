"""How a scheduler comes to life. Facts: SGLang 0.5.11, 0.5.14, 0.5.21 and 0.5.23, srt/managers/scheduler.py."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._arguments.resolving import settled
from .._contract import since
from .._partial import Partial
from ..configs.model_config import ModelConfig
from ..distributed._own_groups import group
from ..mem_cache import _requests
from ..speculative.spec_info import SpeculativeAlgorithm
from ..utils.common import get_available_gpu_memory
from . import _places
from ._batch import ScheduleBatch
from ._channel import open_channel
from ._estimates import Ratio
from ._request import Req
from .schedule_policy import SchedulePolicy
from .tp_worker import TpModelWorker


def rank_arguments(place: _places.Place) -> dict[str, Any]:
    """What the constructor wants of a place, in the release."""
    return {} if since("0.5.21") else asdict(place)


class Starting(Partial):
    """What a scheduler makes at its start, in SGLang's order."""

    def _start(self, server_args: Any, port_args: Any, place: _places.Place) -> None:
        values = settled(server_args)
        self.server_args = server_args
        self.nccl_port = port_args.nccl_port
        self._place = place
        self.page_size: int = values.page_size
        self.enable_overlap = False
        self.stream_interval = values.stream_interval
        self.spec_algorithm = SpeculativeAlgorithm.from_string(values.speculative_algorithm)
        if not self.spec_algorithm.is_none():
            raise not_covered("serving with a draft model")
        self.init_model_config()
        if since("0.5.21"):
            from ..distributed import bootstrap

            bootstrap.init_parallel_runtime(server_args=server_args, device=values.device, dist_port=self.nccl_port)
        self._channel = open_channel(port_args) if place.tp_rank == place.pp_rank == 0 else open_channel(None)
        self.init_model_worker()
        self._init_cache()
        self.init_running_status()
        self.init_chunked_prefill()
        self.init_schedule_policy()

    def init_model_config(self) -> None:
        """Read the model's configuration."""
        self.model_config = ModelConfig.from_server_args(self.server_args)

    def init_tp_model_worker(self) -> None:
        """Make the worker, and with it the model runner."""
        place = self._place
        own = (
            {}
            if since("0.5.21")
            else {"ps": _places.state_of(self.server_args, place)}
            if since("0.5.16")
            else _places.ranks(place)
        )
        self.tp_worker = TpModelWorker(
            server_args=self.server_args, gpu_id=place.gpu_id, nccl_port=self.nccl_port, **own
        )

    def init_model_worker(self) -> None:
        """Make the worker; from 0.5.14 on its pools, attention backend and graphs are made here, one after another."""
        self.init_tp_model_worker()
        if since("0.5.14"):
            self.tp_worker.alloc_memory_pool()
            self.tp_worker.init_attention_backends()
            with torch.no_grad():
                self.tp_worker.init_cuda_graphs()
        self.model_worker = self.tp_worker
        (
            self.max_total_num_tokens,
            self.max_prefill_tokens,
            self.max_running_requests,
            self.max_queued_requests,
            self.max_req_len,
            self.max_req_input_len,
            self.random_seed,
            self.device,
            *_,
        ) = self.tp_worker.get_worker_info()
        self.tp_group = group("tp")
        self.pp_group = group("pp")
        self.world_group = group("world")
        self.pad_input_ids_func = self.tp_worker.get_pad_input_ids_func()
        get_available_gpu_memory(self.device, self._place.gpu_id, empty_cache=False)  # SGLang logs it

    def _init_cache(self) -> None:
        pools = self.tp_worker.get_memory_pool()
        self.req_to_token_pool, self.token_to_kv_pool_allocator = pools
        self.tree_cache = _requests.tree_cache_of(settled(self.server_args), *pools)
        self.disable_radix_cache = bool(settled(self.server_args).disable_radix_cache)

    def init_running_status(self) -> None:
        """No request waits or runs."""
        self.waiting_queue: list[Req] = []
        self.running_batch = ScheduleBatch(reqs=[])
        self.last_batch: ScheduleBatch | None = None
        self.forward_ct = 0
        self.gracefully_exit = False

    def init_chunked_prefill(self) -> None:
        """Of how many tokens a prefill is at most; None where that is open."""
        size = settled(self.server_args).chunked_prefill_size
        self.chunked_prefill_size: int | None = size if size is not None and size > 0 else None
        self.chunked_req: Req | None = None
        if self.chunked_prefill_size is not None and settled(self.server_args).enable_mixed_chunk:
            raise not_covered("prefills mixed with decodes")

    def init_schedule_policy(self) -> None:
        """In which order requests are served."""
        values = settled(self.server_args)
        self.policy = SchedulePolicy(
            values.schedule_policy,
            self.tree_cache,
            values.enable_hierarchical_cache,
            values.enable_priority_scheduling,
            values.schedule_low_priority_values_first,
        )
        self._ratio = Ratio(values.schedule_conservativeness)

    def get_init_info(self) -> dict[str, Any]:
        """What the launching process is told when the rank is ready."""
        return {
            "status": "ready",
            "max_total_num_tokens": self.max_total_num_tokens,
            "max_req_input_len": self.max_req_input_len,
        }
