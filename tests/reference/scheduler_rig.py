"""A scheduler of the reference in this process, driven step by step."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from reference.runner_rig import leave
from sglang_conformance.journey.checkpoints import Llama
from sglang_conformance.oracles.decoders.decoder import Decoder

MODEL = Llama(name="llama", seed=7)
USUAL = {
    "device": "cpu",
    "random_seed": 1,
    "max_total_tokens": 512,
    "max_running_requests": 8,
    "mem_fraction_static": 0.5,
    "skip_tokenizer_init": True,
}
_MOST_STEPS = 2000


@cache
def expected(prompts: tuple[tuple[int, ...], ...], count: int) -> list[list[int]]:
    """What a float64 computation says after each prompt."""
    decoder = Decoder.of(MODEL.config, MODEL.weights())
    return [list(each.tokens) for each in decoder.continued(prompts, count)]


class Step(NamedTuple):
    """A batch that was computed."""

    prefill: bool
    size: int
    result: Any


class Driver:
    """Hands requests to a scheduler, and has it step."""

    def __init__(self, folder: Path, **given: Any) -> None:
        torch.set_num_threads(1)
        module = importlib.import_module("sglang.srt.server_args")
        args = module.ServerArgs(str(folder), **{**USUAL, **given})
        if hasattr(args, "resolve_once"):
            args.resolve_once()
        args.check_server_args()
        ports = module.PortArgs.init_new(args)
        ports.scheduler_input_ipc_name = ""
        self.scheduler = importlib.import_module("sglang.srt.managers.scheduler")._scheduler_of(args, ports, 0)
        self.io = importlib.import_module("sglang.srt.managers.io_struct")
        self._params = importlib.import_module("sglang.srt.sampling.sampling_params").SamplingParams

    def ask(self, rid: str, prompt: Sequence[int], count: int = 16, **sampling: Any) -> None:
        params = self._params(max_new_tokens=count, temperature=0.0, **sampling)
        params.normalize(None)
        request = self.io.TokenizedGenerateReqInput(rid=rid, input_ids=list(prompt), sampling_params=params)
        self.scheduler.process_input_requests([request])

    def abort(self, rid: str = "", **given: Any) -> None:
        self.scheduler.process_input_requests([self.io.AbortReq(rid=rid, **given)])

    def step(self) -> tuple[Any, Any]:
        result: tuple[Any, Any] = self.scheduler._step()
        return result

    def finish(self) -> list[Step]:
        """Step until nothing is left to be done."""
        steps: list[Step] = []
        while not self.scheduler.is_fully_idle():
            assert len(steps) < _MOST_STEPS
            batch, result = self.step()
            if batch is not None:
                steps.append(Step(batch.forward_mode.is_extend(), len(result.next_token_ids), result))
        assert self.step() == (None, None)
        return steps

    @property
    def answers(self) -> dict[str, tuple[list[int], dict[str, Any]]]:
        """Tokens and reason of all requests that have ended."""
        found = {}
        for output in self.scheduler._channel.sent:
            for rid, tokens, reason in zip(output.rids, output.output_ids, output.finished_reasons, strict=True):
                assert rid not in found, f"{rid} was answered twice"
                found[rid] = (tokens, reason)
        return found

    @property
    def memory(self) -> Any:
        return self.scheduler._memory()


@contextmanager
def serving(folder: Path, **given: Any) -> Iterator[Driver]:
    """A scheduler for a while; all its memory must be there at the end."""
    try:
        driver = Driver(folder, **given)
        yield driver
        driver.finish()
        assert driver.memory.leak() == ""
    finally:
        leave()
