"""The launching process of a server, as SGLang has one: it starts the scheduler's processes, asks them, and ends them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..hosts import serving
from ..hosts.enter import load_device_backends
from ..probes.observe import changes, observe
from ..probes.server import Probe, adopt_orphans
from . import attaching, left, settled
from .attended import Attended
from .leg import Leg
from .recording import Recorder
from .trace import END, TOKEN, Role

_ENGINE = "sglang.srt.entrypoints.engine"
_GRACE = 3.0
"""Seconds that what a server has left may take to be gone."""
_NOT_INSTALLED = (
    "a server of several processes is started in the reference only: the installed SGLang tells its launching process "
    "of a failure by a signal, and ends its workers by one"
)


def launch(
    probe: Probe, leg: Mapping[str, Any], device: str, folder: str, starts: int, new: int, deadline: float
) -> dict[str, Any]:
    """Start a server of the leg, serve the model's prompts with ``new`` tokens each, and end it; ``starts`` times.

    The process has entered the host, and nothing of the vendor's is there yet. Each start is told as progress, also one
    that fails, which is the last. It comes to what is ``left`` that was not there before, and to the ``devices`` that
    were started here.
    """
    stage, place, wanted = probe.state, Path(folder), Leg.from_json(leg)
    adopt_orphans()
    load_device_backends()
    if stage.host == "installed":
        raise serving.NotServed(_NOT_INSTALLED)
    wanted.checkpoint.write(place / "model")
    before, files = observe(), left.shared_memory()
    recorder = attaching.start(Role("launcher"), stage.contract, place).recorder
    seam = Attended(place, stage.contract.to_json(), stage.subject.world().hidden, deadline)
    launcher = _Launcher(probe, wanted, device, place / "model", seam, recorder, new, deadline)
    error = ""
    try:
        for _ in range(starts):
            launcher.serve()
    except Exception as raised:
        recorder.failed(raised)
        error = f"{type(raised).__name__}: {raised}"
    else:
        recorder.mark(END)
    remains = left.look(files, before, _GRACE)
    return {"error": error, "left": remains, "devices": list(changes(before, observe()).devices)}


@dataclass(frozen=True)
class _Launcher:
    """Starts servers, one after the other."""

    probe: Probe
    leg: Leg
    device: str
    model: Path
    seam: Attended
    recorder: Recorder
    new: int
    deadline: float

    def serve(self) -> None:
        """One start, told however far it came."""
        told: dict[str, Any] = {}
        try:
            with self._engine(told) as engine:
                prompts = [list(prompt) for prompt in self.leg.checkpoint.prompts]
                begun = time.monotonic()
                self._generate(engine, prompts[:1], 1)
                told["first_token"] = time.monotonic() - begun
                self.recorder.mark(TOKEN)
                begun = time.monotonic()
                told["tokens"] = self._generate(engine, prompts, self.new)
                told["seconds"] = time.monotonic() - begun
        finally:
            self.probe.progress(json.dumps(told))

    @contextlib.contextmanager
    def _engine(self, told: dict[str, Any]) -> Iterator[Any]:
        """A server for a while; what it was asked for, its processes, and how each of them ended, is told."""
        begun = time.monotonic()
        importlib.import_module("sglang.srt.plugins").load_plugins()
        module = importlib.import_module(_ENGINE)
        asked = {"log_level": "error", **self.leg.asked(str(self.model), self.device)}
        arguments = serving.arguments(asked, graphs=self.leg.graphs)
        told["asked"] = {name: asked[name] for name in settled.LOOKED_AT if name in asked}
        told["arguments"] = settled.values(arguments)
        attended = type("Engine", (module.Engine,), {"run_scheduler_process_func": staticmethod(self.seam)})
        try:
            engine = attended(server_args=arguments, _deadline=self.deadline)
        except Exception:
            told["unsendable"] = settled.unsendable(arguments)
            raise
        told["ready"] = time.monotonic() - begun
        processes = multiprocessing.active_children()
        told["pids"] = [process.pid for process in processes]
        try:
            yield engine
        finally:
            begun = time.monotonic()
            engine.shutdown()
            told["ended"] = time.monotonic() - begun
            told["exits"] = [process.exitcode for process in processes]

    @staticmethod
    def _generate(engine: Any, prompts: Sequence[Sequence[int]], new: int) -> list[list[int]]:
        parameters = {"temperature": 0.0, "max_new_tokens": new, "ignore_eos": True}
        answers = engine.generate(input_ids=[list(prompt) for prompt in prompts], sampling_params=parameters)
        return [[int(token) for token in answer["output_ids"]] for answer in answers]
