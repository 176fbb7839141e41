"""``sglang.srt.entrypoints.engine``: the launching process: it starts the ranks, and asks them.

Facts: SGLang 0.5.11, 0.5.18 and 0.5.23, srt/entrypoints/engine.py. Nothing here starts a device. Prompts are tokens:
there is no tokenizer and no detokenizer.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sglang_reference import _lines
from sglang_reference._errors import not_covered

from .._arguments.model import model_config_of
from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ..managers import _places
from ..managers.io_struct import FlushCacheReqOutput
from ..managers.scheduler import run_scheduler_process
from ..plugins import load_plugins
from ..server_args import PortArgs, ServerArgs
from ._client import Client
from ._workers import Workers

__all__ = ["Engine", "SchedulerInitResult"]

_DEADLINE_SECONDS = 120.0
_LINE_SECONDS = 10.0
_END_SECONDS = 10.0


@dataclass
class SchedulerInitResult(Partial):
    """The started ranks: what they told when they were ready, their process ids, and how to wait for them."""

    scheduler_infos: list[dict[str, Any]]
    all_child_pids: list[int]
    wait_for_ready: Callable[[], None]
    block_until_scheduler_exits: Callable[[], None]
    engine_info_bootstrap_server: Any = None


class Engine(Partial):
    """Serves a model with a process for each rank; ``with Engine(...) as engine`` ends them.

    Takes the arguments of ServerArgs, or ``server_args``. ``_deadline`` is how many seconds starting, and then
    each call, may take at most. Raises RuntimeError, with the cause, where a rank fails or is late.
    """

    server_args_class: Any = ServerArgs
    run_scheduler_process_func: Any = staticmethod(run_scheduler_process)

    def __init__(self, **kwargs: Any) -> None:
        self._deadline: float = kwargs.pop("_deadline", _DEADLINE_SECONDS)
        self._workers = Workers()
        self.tokenizer_manager: Client | None = None
        load_plugins()
        if "server_args" in kwargs:
            self.server_args = kwargs["server_args"]
        else:
            self.server_args = self.server_args_class(**{"log_level": "error", **kwargs})
        atexit.register(self.shutdown)
        try:
            self._launch()
        except BaseException:
            self.shutdown()
            raise

    def _launch(self) -> None:
        """Check the arguments, start the ranks, wait until they are ready, and take up the line."""
        _places.resolve(self.server_args)
        load_plugins()
        self.server_args.check_server_args()
        _places.publish_launcher(self.server_args)
        self.port_args = PortArgs.init_new(self.server_args)
        listener = _lines.Listener(self.port_args.scheduler_input_ipc_name)
        try:
            self._scheduler_init_result = self._launch_scheduler_processes(
                self.server_args, self.port_args, self.run_scheduler_process_func
            )
            self._scheduler_init_result.wait_for_ready()
            connection = listener.accept(_LINE_SECONDS)
        finally:
            listener.close()
        vocabulary = model_config_of(self.server_args).vocab_size
        self.tokenizer_manager = Client(connection, self._workers.check, vocabulary)

    def _launch_scheduler_processes(
        self, server_args: Any, port_args: Any, run_scheduler_process_func: Callable[..., Any]
    ) -> SchedulerInitResult:
        """Start the ranks."""
        self._workers.start(server_args, port_args, run_scheduler_process_func)
        infos: list[dict[str, Any]] = []

        def wait_for_ready() -> None:
            infos.extend(self._workers.wait_ready(self._deadline))

        def block_until_scheduler_exits() -> None:
            self._workers.end(self._deadline)

        pids = [worker.process.pid for worker in self._workers.all]
        return SchedulerInitResult(
            scheduler_infos=infos,
            all_child_pids=[pid for pid in pids if pid is not None],
            wait_for_ready=wait_for_ready,
            block_until_scheduler_exits=block_until_scheduler_exits,
        )

    @released(
        Parameters(
            {
                "routed_experts_start_len": Lifetime("0.5.12"),
                "mm_hashes": Lifetime("0.5.13"),
                "require_reasoning": Lifetime("0.5.13"),
                "session_id": Lifetime("0.5.15"),
                "mm_content_hashes": Lifetime("0.5.18"),
                "cache_salt": Lifetime("0.5.18"),
                "kv_hints": Lifetime("0.5.21"),
            }
        )
    )
    def generate(
        self,
        prompt: Any = None,
        sampling_params: Any = None,
        input_ids: Any = None,
        image_data: Any = None,
        audio_data: Any = None,
        video_data: Any = None,
        mm_hashes: Any = None,
        mm_content_hashes: Any = None,
        return_logprob: Any = False,
        logprob_start_len: Any = None,
        top_logprobs_num: Any = None,
        token_ids_logprob: Any = None,
        lora_path: Any = None,
        custom_logit_processor: Any = None,
        require_reasoning: bool = False,
        return_hidden_states: Any = False,
        return_routed_experts: bool = False,
        routed_experts_start_len: int = 0,
        stream: bool = False,
        bootstrap_host: Any = None,
        bootstrap_port: Any = None,
        bootstrap_room: Any = None,
        routed_dp_rank: int | None = None,
        disagg_prefill_dp_rank: int | None = None,
        kv_hints: Any = None,
        data_parallel_rank: int | None = None,
        external_trace_header: Any = None,
        rid: Any = None,
        session_params: Any = None,
        priority: int | None = None,
        session_id: str | None = None,
        *,
        cache_salt: Any = None,
    ) -> Any:
        """What the model says after ``input_ids``, a prompt or several; a dictionary each, with ``output_ids``.

        Raises TimeoutError where that takes longer than the deadline.
        """
        _refuse(
            prompt=prompt,
            image_data=image_data,
            audio_data=audio_data,
            video_data=video_data,
            return_logprob=return_logprob,
            lora_path=lora_path,
            custom_logit_processor=custom_logit_processor,
            return_hidden_states=return_hidden_states,
            return_routed_experts=return_routed_experts,
            stream=stream,
            session_params=session_params,
            cache_salt=cache_salt,
        )
        single = isinstance(input_ids[0], int)
        prompts: Sequence[Sequence[int]] = [input_ids] if single else input_ids
        client = self._client()
        rids = [client.new_rid() for _ in prompts] if rid is None else [rid] if isinstance(rid, str) else list(rid)
        for number, (name, tokens) in enumerate(zip(rids, prompts, strict=True)):
            client.submit(name, tokens, _of(sampling_params, number))
        answers = client.collect(rids, self._deadline)
        return answers[0] if single else answers

    def flush_cache(self) -> FlushCacheReqOutput:
        """Have the ranks forget what they keep of requests that have ended."""
        return self._client().flush_cache(self._deadline)

    def shutdown(self) -> None:
        """End every rank's process: they are given some seconds, and then killed. A second call does nothing."""
        atexit.unregister(self.shutdown)
        if self.tokenizer_manager is not None:
            self.tokenizer_manager.close()
            self.tokenizer_manager = None
            self._workers.end(_END_SECONDS)
        else:
            self._workers.end(0.0)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _client(self) -> Client:
        if self.tokenizer_manager is None:
            raise RuntimeError("the engine has been shut down")
        return self.tokenizer_manager


def _of(sampling_params: Any, number: int) -> Mapping[str, Any]:
    """The sampling parameters of one prompt."""
    given: Mapping[str, Any] = sampling_params[number] if isinstance(sampling_params, list) else sampling_params or {}
    return given


def _refuse(**wanted: Any) -> None:
    for name, value in wanted.items():
        if value is not None and value is not False:
            raise not_covered(f"sglang.srt.entrypoints.engine.Engine.generate with {name}")
