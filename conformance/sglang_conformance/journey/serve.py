"""Serving one leg on one rank: the model is made ready, the requests come and go, every pass is watched.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import inspect
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..blame import is_vendor
from ..hosts import serving
from .leg import Leg, Request
from .served import Answer, Memory, Served
from .watch import Token, Watch, plain

_MOST_STEPS = 2000
_PAUSE = 1
"""Steps in a row that may compute nothing while requests wait: after the last of a batch has gone, SGLang may look once
more before it takes others in (0.5.22, srt/managers/scheduler.py: ``batch_is_full``).
"""


@dataclass(frozen=True)
class Seat:
    """Where a rank of a server stands: its number, the type and number of its device, and a port for all of them."""

    number: int
    kind: str
    device: int
    port: int


class Stuck(RuntimeError):
    """The server goes on and on without an end."""


@contextlib.contextmanager
def server(leg: Leg, seat: Seat) -> Iterator[serving.Server]:
    """The leg's server on this rank, for a while. Its weights lie in a folder until they are loaded, and no longer."""
    with serving.surroundings(), contextlib.ExitStack() as stack:
        with tempfile.TemporaryDirectory(prefix="journey-") as folder:
            leg.checkpoint.write(Path(folder))
            asked = serving.arguments(leg.asked(folder, seat.kind), graphs=leg.graphs)
            pp_rank, tp_rank = divmod(seat.number, leg.tp)
            making = serving.serving(asked, device=seat.device, tp_rank=tp_rank, pp_rank=pp_rank, port=seat.port)
            made = stack.enter_context(making)
        yield made


@dataclass
class Serving:
    """Requests served by one server, each step watched. ``watched`` off: tokens and logits only."""

    server: serving.Server
    leg: Leg
    rank: int
    watched: bool = True
    _answers: dict[str, Answer] = field(default_factory=dict)
    _requests: dict[str, Any] = field(default_factory=dict)
    _slots: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def serve(self, requests: Sequence[Request], before: Callable[[int], object] = lambda step: None) -> Served:
        """Have all requests served to their end; ``before`` is called ahead of each step, with its number.

        Raises Stuck where the end does not come.
        """
        began = time.perf_counter()
        self._answers = {request.name: Answer(request) for request in requests}
        self._requests = {}
        memory = self._memory()
        watch = Watch(self.server.runner.model, self._beside)
        steps, step, idle = 0, 0, 0
        with watch.on() if self.watched else contextlib.nullcontext(), self.server.passes(self._around(watch)):
            waiting = list(requests)
            while True:
                for request in [each for each in waiting if each.arrives <= step]:
                    waiting.remove(request)
                    self.server.ask(request.name, request.prompt, request.new)
                for request in requests:
                    if request.leaves == step:
                        self.server.cancel(request.name)
                before(step)
                went = self.server.step()
                steps, step, idle = steps + went, step + 1, 0 if went else idle + 1
                if idle > _PAUSE and not waiting and all(r.leaves is None or r.leaves < step for r in requests):
                    break
                if step > _MOST_STEPS:
                    raise Stuck(f"{_MOST_STEPS} steps, and the requests are not done")
        self._settle()
        return Served(
            self.leg,
            self.rank,
            dict(self._answers),
            tuple(watch.passes),
            memory,
            self._memory(),
            captured=self.server.captured,
            retracted=self.server.retracted(self._requests.values()),
            cached=sum(int(request.cached_tokens) for request in self._requests.values()),
            steps=steps,
            seconds=time.perf_counter() - began,
            classes=self.server.classes(),
            places={what: _line(type(part)) for what, part in self.server.parts.items()},
        )

    def _around(self, watch: Watch) -> Callable[[Any, Callable[[], Any]], Any]:
        def around(batch: Any, compute: Callable[[], Any]) -> Any:
            extends = batch.forward_mode.is_extend()
            lengths = [int(length) for length in batch.seq_lens_cpu]
            firsts = list(batch.prefix_lens) if extends else [length - 1 for length in lengths]
            names = [str(req.rid) for req in batch.reqs]
            rows = [
                Token(name, position)
                for name, first, length in zip(names, firsts, lengths, strict=True)
                for position in range(first, length)
            ]
            last = [Token(name, length - 1) for name, length in zip(names, lengths, strict=True)]
            self._requests.update(zip(names, batch.reqs, strict=True))
            slots = dict(zip(names, self.server.slots(batch), strict=True))
            with watch.one("extend" if extends else "decode", rows, last, slots):
                self._slots = slots
                result = compute()
            self._note(last, result)
            return result

        return around

    def _note(self, last: Sequence[Token], result: Any) -> None:
        """Keep the logits, by the position that they are for."""
        output = getattr(result, "logits_output", None)
        logits = getattr(output, "next_token_logits", None)
        if logits is None:
            return
        graph = bool(getattr(result, "can_run_cuda_graph", False))
        for token, row in zip(last, plain(logits), strict=True):
            answer = self._answers[token.request]
            made = token.position + 1 - len(answer.request.prompt)  # the number of the token that is chosen by it
            if made >= 0:
                kept, by = answer.logits[:made], answer.by_graph[:made]
                self._answers[token.request] = replace(answer, logits=(*kept, row), by_graph=(*by, graph))

    def _settle(self) -> None:
        for name, request in self._requests.items():
            answer = self._answers[name]
            tokens = tuple(int(token) for token in request.output_ids)
            self._answers[name] = replace(
                answer,
                tokens=tokens,
                logits=answer.logits[: len(tokens)],
                by_graph=answer.by_graph[: len(tokens)],
                reason=serving.reason(request),
            )

    def _beside(self, name: str, module: Any, given: Any) -> Iterator[tuple[str, str, Any, Sequence[Token]]]:
        """What stands in the pool for all tokens of the batch, once a layer's attention has ended."""
        if type(module).__name__ != "RadixAttention" or not self._slots:
            return
        import torch

        layer = int(module.layer_id)
        rows = [Token(name, position) for name, slots in self._slots.items() for position in range(len(slots))]
        pool = self.server.pool
        slots = [slot for own in self._slots.values() for slot in own]
        keys = pool.get_key_buffer(layer)
        if keys.dim() != 3:
            return
        at = torch.tensor(slots, dtype=torch.int64, device=keys.device)
        if name.endswith(("attn_mqa", "attn_mha")):
            yield f"token_to_kv_pool.{layer}", "latent", keys[at], rows
            return
        yield f"token_to_kv_pool.{layer}", "k", keys[at], rows
        yield f"token_to_kv_pool.{layer}", "v", pool.get_value_buffer(layer)[at], rows

    def _memory(self) -> Memory:
        return Memory(**self.server.memory())


def standard(leg: Leg, new: int = 10) -> tuple[Request, ...]:
    """The usual requests: the model's own prompts, of which no token of the continuation is in doubt.

    One comes while the first are served, and one once these have gone: it gets what they have given back. With ten
    tokens to make, decoding comes up to the end of a page of sixteen, too, while others are longer.
    """
    prompts = leg.checkpoint.prompts
    arrivals = (0,) * (len(prompts) - 2) + (new // 2, new + 2)
    return tuple(
        Request(f"r{number}", prompt, new, arrives)
        for number, (prompt, arrives) in enumerate(zip(prompts, arrivals, strict=True))
    )


def _line(kind: type) -> str:
    """Where a class is, or the first of its bases that is a vendor's; empty where all are SGLang's."""
    for each in kind.__mro__:
        with contextlib.suppress(TypeError, OSError):
            file = inspect.getsourcefile(each) or ""
            if is_vendor(file):
                return f"{file}:{inspect.getsourcelines(each)[1]}"
    return ""
