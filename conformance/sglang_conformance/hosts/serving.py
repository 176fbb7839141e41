"""A model served on one rank by the host's own core: scheduler, worker, model runner, pools, graphs.

Every rank of a server makes one of these, is handed the same requests at the same steps, and takes each step together
with the others, as SGLang's scheduler processes do.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from . import groups


class NotCovered(ImportError):
    """The host serves nothing in this environment: by this name the kit reports it as not to be seen here."""


class NotServed(NotCovered):
    """The same of an installed SGLang that lacks something here: by this name the kit reports it as not run."""


def lacking(reason: str) -> NotCovered:
    """What says that this host, for that reason, has not what is to be seen."""
    return NotCovered(reason) if _is_reference() else NotServed(reason)


class Server:
    """One rank's part of a server. ``scheduler`` and ``runner`` are SGLang's objects."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.runner = scheduler.tp_worker.model_runner

    @property
    def page_size(self) -> int:
        """How many slots a page has."""
        return int(self.scheduler.page_size)

    @property
    def allocator(self) -> Any:
        """What hands out slots."""
        return self.scheduler.token_to_kv_pool_allocator

    @property
    def pool(self) -> Any:
        """The pool of keys and values."""
        return self.allocator.get_kvcache()

    @property
    def graphs(self) -> Any:
        """What captures and replays decode steps; None where nothing does."""
        return getattr(self.runner, "decode_cuda_graph_runner", None) or getattr(self.runner, "graph_runner", None)

    def ask(self, name: str, prompt: Sequence[int], new: int) -> None:
        """Hand in a request for ``new`` tokens, each the likeliest. No model here has a token that ends a text."""
        requests = importlib.import_module("sglang.srt.managers.io_struct")
        sampling = importlib.import_module("sglang.srt.sampling.sampling_params")
        parameters = sampling.SamplingParams(temperature=0.0, max_new_tokens=new)
        parameters.normalize(None)
        asked = requests.TokenizedGenerateReqInput(
            rid=name,
            input_text="",
            input_ids=list(prompt),
            mm_inputs=None,
            sampling_params=parameters,
            return_logprob=False,
            logprob_start_len=-1,
            top_logprobs_num=0,
            token_ids_logprob=None,
            stream=False,
        )
        self.scheduler.process_input_requests([asked])

    def cancel(self, name: str) -> None:
        """Give a request up."""
        requests = importlib.import_module("sglang.srt.managers.io_struct")
        self.scheduler.process_input_requests([requests.AbortReq(rid=name)])

    def step(self) -> bool:
        """Compute one batch; whether there was something to compute."""
        return self.scheduler._step()[0] is not None

    def slots(self, batch: Any) -> list[list[int]]:
        """The slots of each request of a batch, in the order of its tokens."""
        rows = self.scheduler.req_to_token_pool.req_to_token
        held = rows[batch.req_pool_indices].cpu().tolist()
        return [own[: int(length)] for own, length in zip(held, batch.seq_lens_cpu, strict=True)]

    @property
    def captured(self) -> tuple[int, ...]:
        """The batch sizes that have a graph."""
        return tuple(sorted(int(size) for size in getattr(self.graphs, "capture_bs", None) or ()))

    def memory(self) -> dict[str, int]:
        """Slots that are free, that the prefix cache can give up, and all; rows for requests, and all of those."""
        scheduler = self.scheduler
        return {
            "available": int(self.allocator.available_size()),
            "evictable": int(scheduler.tree_cache.evictable_size()),
            "total": int(scheduler.max_total_num_tokens),
            "rows": int(scheduler.req_to_token_pool.available_size()),
            "rows_total": int(scheduler.req_to_token_pool.size),
        }

    @property
    def parts(self) -> dict[str, Any]:
        """What a platform may give: the pool, the allocator, the attention backend and, if any, the graph runner."""
        found = {
            "pool": self.pool,
            "allocator": self.allocator,
            "attention": self.runner.attn_backend,
            "graphs": self.graphs,
        }
        return {what: part for what, part in found.items() if part is not None}

    def classes(self) -> dict[str, str]:
        """Which classes these are."""
        return {what: f"{type(part).__module__}.{type(part).__qualname__}" for what, part in self.parts.items()}

    @staticmethod
    def retracted(requests: Iterable[Any]) -> int:
        """How often these requests had to begin anew for want of slots."""
        return sum(int(getattr(request, "retraction_count", 0)) for request in requests)

    def update(self, weights: Iterable[tuple[str, Any]]) -> None:
        """Put these weights, by Hugging Face's names, in the place of the model's; graphs are kept."""
        self._updater.update_weights_from_tensor(list(weights))

    def update_and_recapture(self, folder: str) -> None:
        """Put the weights of a folder in the place of the model's, and capture graphs anew."""
        done, why = self._updater.update_weights_from_disk(folder, "auto", recapture_cuda_graph=True)
        if not done:
            raise RuntimeError(why)

    @property
    def _updater(self) -> Any:
        """What puts new weights in place: an object of its own since 0.5.16, the runner before."""
        return getattr(self.runner, "weight_updater", None) or self.runner

    def recapture(self) -> None:
        """Capture graphs anew."""
        again = getattr(self.runner, "init_decode_cuda_graph", None) or self.runner.init_device_graphs
        again()

    def forget(self) -> bool:
        """Forget what is kept of requests that have ended; whether that could be done."""
        return bool(self.scheduler.flush_cache())

    @contextlib.contextmanager
    def passes(self, around: Callable[[Any, Callable[[], Any]], Any]) -> Iterator[None]:
        """For a while, have every batch computed by ``around(batch, compute)``."""
        compute = self.scheduler.run_batch

        def run(batch: Any, *args: Any, **kwargs: Any) -> Any:
            return around(batch, lambda: compute(batch, *args, **kwargs))

        self.scheduler.run_batch = run
        try:
            yield
        finally:
            del self.scheduler.run_batch


# What the release calls the batch sizes of decode graphs, and how it is told to capture no prefill.
_SIZES = ("cuda_graph_bs_decode", "cuda_graph_bs")
_PREFILL = ("disable_prefill_cuda_graph", "disable_piecewise_cuda_graph")


def load(*further: str) -> None:
    """Import what serves, and these modules. Raises NotServed where that cannot be had here."""
    if _is_reference():
        for name in ("sglang.srt.managers.scheduler", *further):
            importlib.import_module(name)
    else:
        _installed().load(*further)


def load_arguments() -> None:
    """Import SGLang's arguments of a server. Raises NotServed where that cannot be had here."""
    if not _is_reference():
        importlib.import_module(f"{__package__}.unserved").must_import("sglang.srt.server_args")


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """For a while SGLang may change this process's environment, as its arguments do."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def arguments(given: Mapping[str, Any], graphs: Sequence[int] = (), *, driven: bool = True) -> Any:
    """SGLang's server arguments, resolved and checked as its launching process does.

    ``graphs``: the batch sizes to capture decode steps of; none: no graphs at all. ``driven``: they are for
    :func:`serving`, not for a server that goes by itself. Raises NotServed where nothing serves here.
    """
    if driven:
        load()
    kind = _module("server_args").ServerArgs
    known = inspect.signature(kind).parameters
    size, prefill = (next(name for name in names if name in known) for names in (_SIZES, _PREFILL))
    wanted: dict[str, Any] = {size: list(graphs)} if graphs else {"disable_cuda_graph": True}
    own = _installed().OWN if driven and not _is_reference() else {}
    made = kind(**{**own, **given}, **wanted, **{prefill: True})
    if hasattr(made, "resolve_once"):
        made.resolve_once()
    made.check_server_args()
    return made


def settle(given: Mapping[str, Any], *, device: int) -> None:
    """Make what is given this process's arguments, and this device its place, as a scheduler's process does at first.

    Some of SGLang's parts cannot be made before. The reference's can. Raises NotServed where nothing serves here.
    """
    load_arguments()
    if not _is_reference():
        _installed().settle(arguments(given, driven=False), device=device)


def triton_runs() -> bool:
    """Whether Triton has a driver here, so that SGLang's own kernels of it can run."""
    return bool(importlib.import_module(f"{__package__}.unserved").triton_runs())


@contextlib.contextmanager
def serving(server_args: Any, *, device: int, tp_rank: int, pp_rank: int, port: int) -> Iterator[Server]:
    """One rank's server for a while; afterwards its groups are gone, and so is its memory."""
    making = _of_reference if _is_reference() else _installed().serving
    try:
        with making(server_args, device=device, tp_rank=tp_rank, pp_rank=pp_rank, port=port) as made:
            yield made
    finally:
        _leave()


@contextlib.contextmanager
def _of_reference(server_args: Any, *, device: int, tp_rank: int, pp_rank: int, port: int) -> Iterator[Server]:
    place = _module("managers._places").publish(server_args, device, tp_rank, pp_rank)
    # Of dozens of groups a few are used: gloo connects those when they are, and not all of them at the start.
    os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    ports = SimpleNamespace(nccl_port=port, scheduler_input_ipc_name="")
    given = _module("managers._starting").rank_arguments(place)
    yield Server(_module("managers.scheduler").Scheduler(server_args, ports, **given))


@contextlib.contextmanager
def scheduling(told: Callable[[BaseException], None]) -> Iterator[None]:
    """For a while this process may be a scheduler's, by SGLang's own function, with all that comes of it.

    The real SGLang lets no error out of that: ``told`` is then called with it.
    """
    with contextlib.nullcontext() if _is_reference() else _installed().scheduling(told):
        yield


def reason(request: Any) -> str:
    """SGLang's word for why a request ended; empty where it has not."""
    ended = request.finished_reason
    return str(ended.to_json().get("type", "")) if ended is not None else ""


def _leave() -> None:
    """Destroy the groups, and let this process serve again: SGLang's own makes its groups once (from 0.5.21 on)."""
    groups.leave()
    with contextlib.suppress(ImportError, AttributeError):
        _module("distributed.bootstrap").reset_parallel_initialised()


def _is_reference() -> bool:
    """Whether ``sglang.srt`` is the reference here."""
    return "sglang_reference" in sys.modules


def _installed() -> Any:
    return importlib.import_module(f"{__package__}.serving_installed")


def _module(name: str) -> Any:
    return importlib.import_module(f"sglang.srt.{name}")
