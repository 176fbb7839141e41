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
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

from . import unserved
from .serving import Server
from .unserved import SCHEDULER

OWN: Mapping[str, Any] = {"disable_overlap_schedule": True, "log_level": "error"}
"""What is asked for beside what a user asks: the loop that computes and then looks at what it has computed."""

_EXPERTS = "_global_expert_location_metadata"


class _Round(BaseException):  # not an Exception: SGLang takes those
    """The loop has gone round once."""


def load(*further: str) -> None:
    """Import what serves, and these modules, in some ten seconds. Raises NotServed where it does not import."""
    unserved.must_import(*unserved.MODULES, *further)


class InstalledServer(Server):
    """One rank's part of a server of the real SGLang."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._turns, self._most = 0, 1
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
        if self.runner.server_args.pp_size > 1:
            self._keep_a_pipeline()

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
        """One round of SGLang's loop; whether there was something to compute. Of a pipeline, a turn of each batch."""
        self._turns = 0
        scheduler = self.scheduler
        with scheduler.device_module.StreamContext(scheduler.schedule_stream), contextlib.suppress(_Round):
            importlib.import_module(SCHEDULER).dispatch_event_loop(scheduler)
        batches = scheduler.mbs if self._most > 1 else [scheduler.last_batch]
        return any(batch is not None for batch in batches)

    def _keep_a_pipeline(self) -> None:
        """Have a pipeline's loop go on where it was left, as all that it is about is kept on the scheduler.

        Each rank is handed the requests, so no stage sends them to the next. Facts: SGLang 0.5.11 to 0.5.23,
        srt/managers/scheduler_pp_mixin.py.
        """
        scheduler = self.scheduler
        scheduler.init_pp_loop_state()
        self._most = int(scheduler.pp_loop_size)
        scheduler.init_pp_loop_state = lambda: None
        scheduler._pp_send_pyobj_to_next_stage = lambda *_, **__: []

    def _receive(self, *_: Any, **__: Any) -> list[Any]:
        """What has come in: nothing, as requests are handed in beside the loop."""
        self._turns += 1
        if self._turns > self._most:
            raise _Round
        return []


@contextlib.contextmanager
def serving(server_args: Any, *, device: int, tp_rank: int, pp_rank: int, port: int) -> Iterator[Server]:
    """One rank's server for a while; its groups are still there afterwards.

    Raises NotServed where SGLang lacks something here that the model wants.
    """
    load()
    unserved.must_be_able(server_args)
    ranks = _place(server_args, device, tp_rank, pp_rank)
    kind = importlib.import_module(SCHEDULER).Scheduler
    wanted = inspect.signature(kind).parameters
    given = {name: ranks[name] for name in wanted if name in ranks}
    try:
        with unheard(), _unhurried():
            made = InstalledServer(_made(lambda: kind(server_args, _ports(port), **given), server_args))
            unserved.must_serve(made, server_args)
            yield made
    finally:
        _forget()


@contextlib.contextmanager
def scheduling(told: Callable[[BaseException], None]) -> Iterator[None]:
    """For a while ``told`` is called with each error that SGLang's run_scheduler_process takes: it logs the error,
    sends its launching process SIGQUIT, and returns (0.5.11 and 0.5.23, srt/managers/scheduler.py).

    A scheduler that is made meanwhile, and could not serve for what SGLang lacks here, fails with NotServed.
    """
    module: Any = importlib.import_module(SCHEDULER)
    kind: Any = module.Scheduler
    put_into_words, make = module.get_exception_traceback, kind.__init__

    def heard() -> str:
        error = sys.exc_info()[1]
        if error is not None:
            told(error)
        return str(put_into_words())

    @functools.wraps(make)
    def made(self: Any, server_args: Any, *args: Any, **kwargs: Any) -> None:
        try:
            _made(lambda: make(self, server_args, *args, **kwargs), server_args)
        except Exception:
            unserved.must_have_model(server_args)
            raise
        unserved.must_serve(Server(self), server_args)

    module.get_exception_traceback, kind.__init__ = heard, made
    try:
        yield
    finally:
        module.get_exception_traceback, kind.__init__ = put_into_words, make


def settle(server_args: Any, *, device: int) -> None:
    """Make these the arguments of this process, and this device the place of its only rank, without a server."""
    _place(server_args, device, 0, 0)
    with contextlib.suppress(ImportError):
        if hasattr(importlib.import_module("sglang.srt.runtime_context"), "publish"):
            return
    # Up to 0.5.16 the model runner does it.
    importlib.import_module("sglang.srt.server_args").set_global_server_args_for_scheduler(server_args)


def _made(make: Callable[[], Any], server_args: Any) -> Any:
    try:
        return make()
    except Exception as error:
        unserved.must_capture(error, server_args)
        raise


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
def unheard() -> Iterator[list[Any]]:
    """What is made of ZeroMQ meanwhile ends with it, and what was said there unheard with it: its contexts, of which
    one that is taken out of this list stays. A context that is forgotten instead waits for who hears it, without end.
    """
    zmq: Any = importlib.import_module("zmq")
    makers: list[Any] = []
    make = zmq.Context.socket

    def socket(self: Any, *args: Any, **kwargs: Any) -> Any:
        makers.append(self)
        return make(self, *args, **kwargs)

    zmq.Context.socket = socket
    try:
        yield makers
    finally:
        zmq.Context.socket = make
        for maker in makers:
            maker.destroy(linger=0)
