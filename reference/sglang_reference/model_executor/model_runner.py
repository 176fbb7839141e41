"""``sglang.srt.model_executor.model_runner``: one rank's model, memory and graphs, and a forward pass through them.

What a platform meets is SGLang's: its backend is initialized when this module is imported, and it is asked in the
order and as often as the release asks. Only the target model of a server is covered. Facts: SGLang 0.5.11, 0.5.14,
0.5.16, 0.5.21 and 0.5.23, srt/model_executor/model_runner.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .. import platforms
from .._arguments import published
from .._arguments.resolving import attention_backends_of, settled
from .._arguments.served import refuse_what_is_not
from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ..distributed._own_groups import group
from ..speculative.spec_info import SpeculativeAlgorithm
from . import _attention, _eager, _graphs, _joining, _layout, _loading, _weights
from .forward_batch_info import ForwardBatch, PPProxyTensors

__all__ = ["ModelRunner", "ModelRunnerOutput"]

if platforms.current_platform.is_out_of_tree():
    platforms.current_platform.init_backend()

_GRAPHS = "decode_cuda_graph_runner" if since("0.5.14") else "graph_runner"
_APART = Lifetime(gone="0.5.16")

_CONSTRUCTOR = Parameters(
    {
        **dict.fromkeys(
            ("tp_rank", "tp_size", "moe_ep_rank", "moe_ep_size", "pp_rank", "pp_size", "dp_rank", "attn_cp_rank"),
            _APART,
        ),
        "moe_dp_rank": _APART,
        "ps": Lifetime("0.5.16", gone="0.5.21"),
        "draft_attention_backend": Lifetime("0.5.18"),
        "load_group": Lifetime("0.5.22"),
    }
)
"""``_CONSTRUCTOR.named(...)`` picks the arguments that the release's ModelRunner takes."""

_Base: Any
if since("0.5.16"):
    _Base = Partial
else:
    from .model_runner_kv_cache_mixin import ModelRunnerKVCacheMixin

    class _Base(ModelRunnerKVCacheMixin, Partial):  # type: ignore[no-redef]
        pass


@dataclass
class ModelRunnerOutput:
    """What a forward pass gave: logits on the last stage of a pipeline, tensors for the next one elsewhere."""

    logits_output: Any
    can_run_graph: bool
    expert_distribution_metrics: Any = None
    routed_experts_output: Any = None
    if since("0.5.13"):
        indexer_topk_output: Any = None


class ModelRunner(_Base):  # type: ignore[misc]
    """Runs the forward passes of a rank's part of a model.

    Up to 0.5.13 making it does everything up to the graphs; later its worker goes on with ``alloc_memory_pool``,
    ``init_attention_backends`` and ``init_cuda_graphs``.
    """

    @released(_CONSTRUCTOR)
    def __init__(
        self,
        model_config: Any,
        mem_fraction_static: float,
        gpu_id: int,
        tp_rank: int,
        tp_size: int,
        moe_ep_rank: int,
        moe_ep_size: int,
        pp_rank: int,
        pp_size: int,
        ps: Any,
        nccl_port: int,
        server_args: Any,
        dp_rank: int | None = None,
        attn_cp_rank: int | None = None,
        moe_dp_rank: int | None = None,
        is_draft_worker: bool = False,
        req_to_token_pool: Any = None,
        token_to_kv_pool_allocator: Any = None,
        memory_pool_config: Any = None,
        draft_model_idx: int | None = None,
        draft_attention_backend: str | None = None,
        load_group: Any = None,
    ) -> None:
        if is_draft_worker or draft_model_idx is not None or draft_attention_backend is not None:
            raise not_covered("the runner of a draft model")
        refuse_what_is_not(server_args)
        told = {name: value for name, value in locals().items() if name.endswith(("_rank", "_size"))}
        values = settled(server_args)
        self.model_config = model_config
        self.mem_fraction_static = mem_fraction_static
        self.gpu_id = gpu_id
        self.dist_port = nccl_port
        self.server_args = server_args
        self.device: str = values.device
        self.is_draft_worker = is_draft_worker
        self.draft_model_idx = draft_model_idx
        self.req_to_token_pool = req_to_token_pool
        self.token_to_kv_pool_allocator = token_to_kv_pool_allocator
        self.memory_pool_config = memory_pool_config
        self.page_size = values.page_size
        self.is_generation = getattr(model_config, "is_generation", True)
        self.is_multimodal = getattr(model_config, "is_multimodal", False)
        self.is_hybrid_swa = getattr(model_config, "is_hybrid_swa", False)
        self.is_hybrid_swa_compress = getattr(model_config, "is_hybrid_swa_compress", False)
        self.attention_chunk_size = getattr(model_config, "attention_chunk_size", None)
        self.use_mla_backend = getattr(model_config.attention_arch, "name", "") == "MLA"
        self.spec_algorithm = SpeculativeAlgorithm.from_string(values.speculative_algorithm)
        if self.spec_algorithm.is_speculative():
            raise not_covered(f"a server with speculative decoding by {self.spec_algorithm.name}")
        self.forward_pass_id = 0
        self.enable_hisparse = False
        self.hisparse_coordinator = None
        self.lora_manager = None
        self.device_timer = None
        self._place = _layout.of_runner(server_args, ps, told)
        self.__dict__.update(_layout.attributes(self._place))
        if since("0.5.16") and not since("0.5.21"):
            self.ps = ps
        if not since("0.5.18"):
            published.publish(server_args)
        self.memory_saver_adapter = None
        if since("0.5.21"):
            _joining.make_current(self.device, gpu_id, self._place)
        self.init_torch_distributed()
        self.forward_stream = torch.get_device_module(self.device).Stream()
        self.initialize(*(() if since("0.5.14") else (self.pre_model_load_memory,)))
        self.support_pp = _takes_proxies(self.model)
        if self._place.pp_size > 1:
            assert self.support_pp, "Pipeline Parallel is not compatible with this model."
        if since("0.5.16"):
            from .model_runner_components.weight_updater import WeightUpdater

            self.weight_updater = WeightUpdater(self, self._place.tp_rank)

    def init_torch_distributed(self) -> Any:
        """Measure what memory there is before the model; up to 0.5.20, join the other ranks first."""
        place = (self.device, self.gpu_id)
        if since("0.5.21"):
            least = _joining.measure(*place, self._place, is_draft_worker=self.is_draft_worker)
        else:
            least = _joining.join_and_measure(
                self.server_args, *place, self.dist_port, self._place, is_draft_worker=self.is_draft_worker
            )
        self.pre_model_load_memory = least
        self.pp_group = group("pp")
        if not since("0.5.22"):
            self.tp_group = group("tp")
        if not since("0.5.21"):
            self.attention_tp_group = group("attn_tp")
        return None if since("0.5.14") else least

    @released(Parameters({"pre_model_load_memory": Lifetime(gone="0.5.14")}))
    def initialize(self, pre_model_load_memory: float) -> None:
        """Load the model; up to 0.5.13, make pools, attention backend and graphs, too."""
        from ..layers.sampler import create_sampler

        self.sampler = create_sampler()
        self.load_model()
        info = _loading.layers_of(self.model, self.model_config)
        if since("0.5.16"):
            self.layer_info = info
            self.spec_aux_config = _loading.AuxHiddenStates()
        else:
            self.start_layer, self.end_layer = info.start_layer, info.end_layer
            self.num_effective_layers = info.num_effective_layers
        self.kv_cache_dtype = _loading.kv_cache_type(self.server_args, self.dtype)
        if since("0.5.17"):
            self.kv_cache_dtype_str = settled(self.server_args).kv_cache_dtype
        if not since("0.5.14"):
            self.support_pp = _takes_proxies(self.model)
            self.init_memory_pool(pre_model_load_memory)
            self.init_attention_backend()
            self.graph_runner, self.graph_mem_usage = None, 0.0
            if _graphs.platform_captures(self.device):
                self.init_device_graphs()
            self._init_pieces()

    def load_model(self) -> None:
        """Load the weights, and tell the platform of the model (from 0.5.22 on)."""
        loaded = _loading.load(self, self._place.tp_rank)
        self.model, self.loader, self.load_config = loaded.model, loaded.loader, loaded.load_config
        self.weight_load_mem_usage = loaded.memory
        self.sliding_window_size = _loading.sliding_window(self.model, self.model_config)
        self.dtype: torch.dtype = self.model_config.dtype

    if since("0.5.14"):

        @released(Parameters({"draft_parallel_layout": Lifetime("0.5.23")}))
        def alloc_memory_pool(self, memory_pool_config: Any = None, *, draft_parallel_layout: Any = None) -> None:
            """Make the pools of requests, keys and values, and what hands out their slots."""
            if memory_pool_config is not None:
                self.memory_pool_config = memory_pool_config
            if not since("0.5.16"):
                self.init_memory_pool(self.pre_model_load_memory)
                return
            self.kv_cache_configurator = _configurator(self)
            result = self.kv_cache_configurator.configure(pre_model_load_memory=self.pre_model_load_memory)
            self.max_total_num_tokens = result.max_total_num_tokens
            self.max_running_requests = result.max_running_requests
            self.req_to_token_pool = result.req_to_token_pool
            self.token_to_kv_pool = result.token_to_kv_pool
            self.token_to_kv_pool_allocator = result.token_to_kv_pool_allocator
            self.memory_pool_config = result.memory_pool_config

        def init_attention_backends(self) -> None:
            """Make the attention backend that the arguments name."""
            self._name_attention()
            self.attn_backend = _attention.backend_of(self)
            self.decode_attn_backend = None

        def init_cuda_graphs(self, capture_decode_cuda_graph: bool = True) -> None:
            """Capture decode steps, where the platform captures and the settings let it."""
            from .runner.eager_runner import EagerRunner

            self.eager_runner = EagerRunner(self)
            _graphs.refuse_prefill(self)
            self.prefill_cuda_graph_runner = self.eager_runner
            captured = _graphs.Captured()
            if not capture_decode_cuda_graph:
                captured = _graphs.Captured(self.eager_runner)
            elif _graphs.platform_captures(self.device):
                captured = _graphs.decode_graphs(self, self._place.tp_rank)
            self._keep(captured)

        def init_decode_cuda_graph(self) -> None:
            """Capture decode steps anew."""
            self.decode_cuda_graph_runner = None
            self._keep(_graphs.decode_graphs(self, self._place.tp_rank))

        def _keep(self, captured: _graphs.Captured) -> None:
            self.decode_cuda_graph_runner = captured.runner
            if since("0.5.17"):
                self.graph_memory_usage = {"decode": captured.memory}
            else:
                self.graph_mem_usage = captured.memory

    else:

        def init_attention_backend(self) -> None:
            """Make the attention backend that the arguments name."""
            self._name_attention()
            self.attn_backend = _attention.backend_of(self)

        def init_device_graphs(self) -> None:
            """Capture decode steps, where the settings let them be captured."""
            self.graph_runner, self.graph_mem_usage = None, 0.0
            captured = _graphs.decode_graphs(self, self._place.tp_rank)
            self.graph_runner, self.graph_mem_usage = captured.runner, captured.memory

        def _init_pieces(self) -> None:
            self.piecewise_cuda_graph_runner = None
            _graphs.refuse_prefill(self)

    def forward(
        self,
        forward_batch: ForwardBatch,
        skip_attn_backend_init: bool = False,
        pp_proxy_tensors: PPProxyTensors | None = None,
        reinit_attn_backend: bool = False,
        split_forward_count: int = 1,
    ) -> ModelRunnerOutput:
        """One forward pass: of captured steps where they fit the batch, else of the model itself."""
        self.forward_pass_id += 1
        mode, runner = forward_batch.forward_mode, getattr(self, _GRAPHS)
        fits = mode.is_cpu_graph() if self.device == "cpu" else mode.is_cuda_graph()
        with _eager.context(self.attn_backend, forward_batch):
            if fits and runner and _can_run(runner, forward_batch):
                output = _run(runner, forward_batch, bool(skip_attn_backend_init), pp_proxy_tensors)
                return ModelRunnerOutput(logits_output=output, can_run_graph=True)
            planned = bool(skip_attn_backend_init) or (
                since("0.5.13") and not forward_batch.needs_forward_metadata_init()
            )
            output = _eager.forward(self, forward_batch, pp_proxy_tensors, planned=planned)
        return ModelRunnerOutput(logits_output=output, can_run_graph=False)

    def sample(self, logits_output: Any, forward_batch: ForwardBatch) -> torch.Tensor:
        """The next token of each request."""
        info = forward_batch.sampling_info
        info.update_regex_vocab_mask()
        info.apply_logits_bias(logits_output.next_token_logits)
        decodes = forward_batch.forward_mode.is_decode()
        tokens: torch.Tensor = self.sampler(
            logits_output,
            info,
            forward_batch.return_logprob,
            forward_batch.top_logprobs_nums,
            forward_batch.token_ids_logprobs,
            forward_batch.positions if decodes else forward_batch.seq_lens - 1,
        )
        return tokens

    if not since("0.5.16"):

        def update_weights_from_tensor(
            self, named_tensors: list[tuple[str, Any]], load_format: str | None = None
        ) -> tuple[bool, str]:
            """Put these weights in place; graphs go on reading the same memory."""
            return _weights.load_tensors(self, named_tensors, load_format, self._place.tp_rank)

        def update_weights_from_disk(
            self,
            model_path: str,
            load_format: str,
            weight_name_filter: Callable[[str], bool] | None = None,
            recapture_cuda_graph: bool = False,
        ) -> tuple[bool, str]:
            """Put the weights of a folder in place, and capture graphs anew where that is asked for."""
            again = self.init_decode_cuda_graph if since("0.5.14") else self.init_device_graphs
            recapture = again if recapture_cuda_graph else None
            return _weights.load_from_disk(self, model_path, load_format, weight_name_filter, recapture)

    def _name_attention(self) -> None:
        prefill, decode = attention_backends_of(self.server_args)
        self.prefill_attention_backend_str, self.decode_attention_backend_str = prefill, decode


def _takes_proxies(model: Any) -> bool:
    import inspect

    return "pp_proxy_tensors" in inspect.signature(model.forward).parameters


def _can_run(runner: Any, forward_batch: ForwardBatch) -> bool:
    return bool(runner.can_run_graph(forward_batch) if since("0.5.14") else runner.can_run(forward_batch))


def _run(runner: Any, forward_batch: ForwardBatch, planned: bool, proxies: PPProxyTensors | None) -> Any:
    if since("0.5.14"):
        return runner.execute(forward_batch, pp_proxy_tensors=proxies)
    skip = {} if since("0.5.13") else {"skip_attn_backend_init": planned}
    return runner.replay(forward_batch, **skip, pp_proxy_tensors=proxies)


def _configurator(runner: ModelRunner) -> Any:
    """What sizes and makes the pools, told what the release tells it."""
    import inspect

    from ..mem_cache.kv_cache_configurator import KVCacheConfigurator

    told = {
        "pp_size": runner._place.pp_size,
        "attn_dp_size": runner._place.dp_size,
        "model_dtype": runner.dtype,
        "post_capture_kv_active": False,
        "draft_parallel_layout": None,
        "server_args": settled(runner.server_args),
    }
    for name in inspect.signature(KVCacheConfigurator).parameters:
        if name not in told:
            with contextlib.suppress(AttributeError):
                told[name] = getattr(runner, name)
    return KVCacheConfigurator(**{n: told[n] for n in inspect.signature(KVCacheConfigurator).parameters if n in told})
