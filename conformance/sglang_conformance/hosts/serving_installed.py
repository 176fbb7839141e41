"""A model served on one rank by the real SGLang: its scheduler process, driven one step of its loop at a time.

What SGLang's ``run_scheduler_process`` does is done here, in its order: the arguments and the place are published, the
scheduler is made, and its own loop runs. That loop is left whenever it asks once more what has come in, so a step is
one round of it, whatever the release does in one. Nobody listens to what the scheduler says.

Facts: SGLang 0.5.11, 0.5.15, 0.5.18, 0.5.22 and 0.5.23, srt/managers/scheduler.py.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import array
import contextlib
import functools
import gc
import importlib
import inspect
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import lacking
from .serving import NotServed, Server

OWN: Mapping[str, Any] = {"disable_overlap_schedule": True, "log_level": "error"}
"""What is asked for beside what a user asks: the loop that computes and then looks at what it has computed."""

SCHEDULER = "sglang.srt.managers.scheduler"
MODULES = ("sglang.srt.server_args", SCHEDULER, "sglang.srt.models.registry")
# The modules of the architectures that are served. SGLang leaves out the models that it cannot import.
_MODELS = {"LlamaForCausalLM": "llama", "DeepseekV2ForCausalLM": "deepseek_v2", "MixtralForCausalLM": "mixtral"}
# What these modules want in every release, beside what SGLang's platforms and groups want.
_WANTED = (
    "transformers",
    "torchvision",
    "safetensors",
    "sentencepiece",
    "compressed_tensors",
    "gguf",
    "einops",
    "xgrammar",
    "openai",
    "fastapi",
    "uvicorn",
    "uvloop",
    "partial_json_parser",
    "dill",
    "loguru",
    "setproctitle",
)
_WITH_TRANSFORMERS = ("huggingface_hub", "tokenizers")
_TORCH_NATIVE = "sglang.srt.layers.attention.torch_native_backend.TorchNativeAttnBackend"
_EXPERTS_IN_TORCH = (
    "SGLang's experts in torch (srt/layers/moe/fused_moe_native.py), which this platform has, "
    "run neither in graphs nor on several ranks"
)
_EXPERTS = "_global_expert_location_metadata"


class _Round(BaseException):  # not an Exception: SGLang takes those
    """The loop has gone round once."""


def load() -> None:
    """Import what serves, which takes some ten seconds. Raises NotServed where it does not import."""
    _must_import(*MODULES)


@functools.cache
def obstacle(*modules: str) -> str:
    """Why these modules of SGLang's do not import, with all that is missing and how to add it; empty where they do."""
    try:
        for name in modules:
            importlib.import_module(name)
    except Exception as error:
        first = lacking.packages(error, ())
        known = [name for name in _WANTED if not lacking.is_here(name)]
        if set(first) & {*known, *_WITH_TRANSFORMERS}:  # then there is no need to look for what is missing
            return lacking.of(known)
        return lacking.told(error, modules)
    return ""


class InstalledServer(Server):
    """One rank's part of a server of the real SGLang."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._rounds = 0
        # Up to 0.5.19 the loop's stream is made when it begins.
        if not hasattr(scheduler, "schedule_stream"):
            scheduler.schedule_stream = scheduler.device_module.Stream(priority=0)
        if scheduler.device == "cpu":
            scheduler.schedule_stream.synchronize = lambda: None
        if hasattr(scheduler, "ingest_requests"):
            scheduler.ingest_requests = self._receive
        elif hasattr(scheduler, "request_receiver"):
            scheduler.request_receiver = SimpleNamespace(recv_requests=self._receive)
        else:
            scheduler.recv_requests = self._receive

    def ask(self, name: str, prompt: Sequence[int], new: int) -> None:
        """Hand in a request for ``new`` tokens, each the likeliest."""
        kind = importlib.import_module("sglang.srt.managers.io_struct").TokenizedGenerateReqInput
        sampling = importlib.import_module("sglang.srt.sampling.sampling_params")
        parameters = sampling.SamplingParams(temperature=0.0, max_new_tokens=new, ignore_eos=True)
        parameters.normalize(None)
        declared = inspect.signature(kind).parameters
        numbers = "array" in str(declared["input_ids"].annotation)
        given = {
            "rid": name,
            "input_text": "",
            "input_ids": array.array("q", prompt) if numbers else list(prompt),
            "sampling_params": parameters,
            "return_logprob": False,
            "logprob_start_len": -1,
            "top_logprobs_num": 0,
            "stream": False,
        }
        open_ = {n: None for n, each in declared.items() if each.default is inspect.Parameter.empty}
        self.scheduler.process_input_requests([kind(**(open_ | given))])

    def step(self) -> bool:
        """One round of SGLang's loop; whether there was something to compute."""
        self._rounds = 0
        scheduler = self.scheduler
        with scheduler.device_module.StreamContext(scheduler.schedule_stream), contextlib.suppress(_Round):
            importlib.import_module(SCHEDULER).dispatch_event_loop(scheduler)
        return scheduler.last_batch is not None

    def _receive(self, *_: Any, **__: Any) -> list[Any]:
        """What has come in: nothing, as requests are handed in beside the loop."""
        self._rounds += 1
        if self._rounds > 1:
            raise _Round
        return []


@contextlib.contextmanager
def serving(server_args: Any, *, device: int, tp_rank: int, pp_rank: int, port: int) -> Iterator[Server]:
    """One rank's server for a while; its groups are still there afterwards.

    Raises NotServed where SGLang lacks something here that the model wants.
    """
    load()
    if server_args.pp_size > 1:
        raise NotServed("SGLang's loop for the stages of a pipeline is not driven step by step inside the real SGLang")
    architectures = _architectures(server_args)
    for architecture in architectures:
        _must_import(f"sglang.srt.models.{_MODELS[architecture]}")
    ranks = _place(server_args, device, tp_rank, pp_rank)
    kind = importlib.import_module(SCHEDULER).Scheduler
    wanted = inspect.signature(kind).parameters
    given = {name: ranks[name] for name in wanted if name in ranks}
    try:
        with _unheard(), _unhurried():
            made = InstalledServer(kind(server_args, _ports(port), **given))
            _can_serve(made, architectures)
            yield made
    except Exception as error:
        if _is_of_experts_in_torch(error, server_args):
            raise NotServed(_EXPERTS_IN_TORCH) from error
        raise
    finally:
        _forget()


def _must_import(*modules: str) -> None:
    if why := obstacle(*modules):
        raise NotServed(why)


def _architectures(server_args: Any) -> list[str]:
    """What kinds of model the folder holds."""
    config = json.loads((Path(server_args.model_path) / "config.json").read_text(encoding="utf-8"))
    return [str(each) for each in config["architectures"]]


def _can_serve(server: Server, architectures: Sequence[str]) -> None:
    """Raises NotServed for what SGLang's own parts, which the platform only chose, cannot serve here.

    Latent attention is prefilled by way of its whole keys, which SGLang's attention in torch looks for in the pool
    (0.5.23, srt/models/deepseek_common/attention_backend_handler.py and layers/attention/torch_native_backend.py).
    Up to 0.5.21 SGLang's allocator of pages is Triton's kernels (0.5.21, srt/mem_cache/allocator/paged.py).
    """
    if "DeepseekV2ForCausalLM" in architectures and _name(server.runner.attn_backend) == _TORCH_NATIVE:
        raise NotServed("SGLang's attention backend torch_native, which this platform has, serves no latent attention")
    allocator = server.allocator
    own = _name(allocator).startswith("sglang.") and _name(allocator).endswith(".PagedTokenToKVPoolAllocator")
    knows = hasattr(importlib.import_module("sglang.srt.platforms.interface"), "PlatformCapabilities")  # 0.5.22 on
    if server.page_size > 1 and own and not knows and not _triton_has_a_driver():
        raise NotServed(
            f"{_name(allocator)}, which this platform has, is Triton's kernels, and Triton has no driver here"
        )


def _is_of_experts_in_torch(error: BaseException, server_args: Any) -> bool:
    """Whether SGLang's own experts in torch came to an end that no device has a part in: they count tokens on the host,
    which no graph can hold, and take the number -1, of experts on other ranks, for an index (0.5.23).
    """
    files = [each.filename for each in traceback.extract_tb(error.__traceback__) if "/sglang/srt/" in each.filename]
    beyond = server_args.ep_size > 1 or not server_args.disable_cuda_graph
    return beyond and bool(files) and files[-1].endswith("/layers/moe/fused_moe_native.py")


def _name(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _triton_has_a_driver() -> bool:
    try:
        importlib.import_module("triton.runtime").driver.active.get_current_device()
    except Exception:
        return False
    return True


def _forget() -> None:
    """Let this process serve again: some of what SGLang keeps for the process is to be set only once in it."""
    with contextlib.suppress(ImportError, AttributeError):  # 0.5.15 on
        importlib.import_module("sglang.srt.runtime_context").reset_context()
    location: Any = importlib.import_module("sglang.srt.eplb.expert_location")
    if hasattr(location, _EXPERTS):  # up to 0.5.17
        setattr(location, _EXPERTS, None)
    gc.collect()


def _place(server_args: Any, device: int, tp_rank: int, pp_rank: int) -> dict[str, Any]:
    """Make these the arguments and the place of this process; the ranks that a scheduler is given, as far as it is."""
    with contextlib.suppress(ImportError):  # 0.5.17 on
        context = importlib.import_module("sglang.srt.runtime_context")
        if hasattr(context, "SpawnRanks"):  # 0.5.21 on
            world_rank = context.spawn_world_rank(server_args, tp_rank=tp_rank, pp_rank=pp_rank)
            ranks = context.SpawnRanks(world_rank=world_rank, gpu_id=device)
            context.publish(server_args, role="scheduler", ranks=ranks)
        elif hasattr(context, "publish"):
            context.publish(server_args, role="scheduler")
    return {
        "gpu_id": device,
        "tp_rank": tp_rank,
        "pp_rank": pp_rank,
        "moe_ep_rank": tp_rank // (server_args.tp_size // server_args.ep_size),
        "attn_cp_rank": 0,
        "moe_dp_rank": 0,
        "dp_rank": None,
    }


def _ports(port: int) -> Any:
    """Where a scheduler's process listens and talks: to nobody."""
    kind = importlib.import_module("sglang.srt.server_args").PortArgs
    given = {"nccl_port": port, "tokenizer_worker_ipc_name": None, "decoupled_spec_ipc_config": None}
    names = {each.name: f"inproc://{each.name}" for each in fields(kind) if each.name.endswith("_ipc_name")}
    known = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in (names | given).items() if name in known})


@contextlib.contextmanager
def _unhurried() -> Iterator[None]:
    """A scheduler made meanwhile is watched by no thread, which would keep it, and end this process's parent where a
    round takes long (0.5.11 and 0.5.23, srt/utils/watchdog.py).
    """
    watchdog = importlib.import_module("sglang.srt.utils.watchdog").WatchdogRaw
    watches = watchdog._watchdog_thread
    watchdog._watchdog_thread = lambda self: None
    try:
        yield
    finally:
        watchdog._watchdog_thread = watches


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """What is made of ZeroMQ meanwhile ends with it, and what was said there unheard with it."""
    zmq: Any = importlib.import_module("zmq")
    makers: list[Any] = []
    make = zmq.Context.socket

    def socket(self: Any, *args: Any, **kwargs: Any) -> Any:
        makers.append(self)
        return make(self, *args, **kwargs)

    zmq.Context.socket = socket
    try:
        yield
    finally:
        zmq.Context.socket = make
        for maker in makers:
            maker.destroy(linger=0)
