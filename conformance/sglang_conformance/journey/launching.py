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

from ..contract.model import Contract
from ..hosts import serving
from ..hosts.enter import enter, load_device_backends
from ..probes.observe import changes, observe
from ..probes.server import Probe, adopt_orphans
from ..subject import Subject
from . import attaching, engines, left, settled, shared_memory
from .attended import Attended
from .leg import Leg
from .recording import Recorder
from .trace import END, TOKEN, Role

_GRACE = 3.0
"""Seconds that what a server has left may take to be gone."""


def launch(
    probe: Probe,
    leg: Mapping[str, Any],
    device: str,
    folder: str,
    starts: int,
    new: int,
    deadline: float,
    entering: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Start a server of the leg, serve the model's prompts with ``new`` tokens each, and end it; ``starts`` times.

    Nothing of the vendor's is in the process yet. It has entered the reference; the real SGLang, which chooses its
    platform while it is imported, is entered here, as a user's launching process does: then ``entering`` says for whom.
    Each start is told as progress, also one that fails, which is the last. It comes to what is ``left`` that was not
    there before, and to the ``devices`` that were started here.
    """
    place, wanted = Path(folder), Leg.from_json(leg)
    adopt_orphans()
    load_device_backends()
    wanted.checkpoint.write(place / "model")
    begun, files = observe(), shared_memory.names()
    shared_memory.note(place)
    contract, subject = (
        (probe.state.contract, probe.state.subject)
        if entering is None
        else (Contract.from_json(entering["table"]), Subject.from_json(entering["subject"]))
    )
    recorder = attaching.start(Role("launcher"), contract, place).recorder
    host: engines.Host = engines.Reference() if entering is None else engines.Installed()
    seam = Attended(place, contract.to_json(), subject.world().hidden, deadline)
    launcher = _Launcher(probe, host, wanted, device, place / "model", seam, recorder, new, deadline)
    before, error = begun, ""
    try:
        if entering is not None:
            enter(entering["kind"], entering["table"])
            engines.load(subject.packages)
            before = observe()  # the threads of what SGLang imports are its own
        for _ in range(starts):
            launcher.serve()
    except Exception as raised:
        recorder.failed(raised)
        error = f"{type(raised).__name__}: {raised}"
    else:
        recorder.mark(END)
    remains = left.look(
        before, _GRACE, lambda: (shared_memory.names() - files) & shared_memory.noted(place), host.threads
    )
    return {
        "error": error,
        "left": {kind: found for kind, found in remains.items() if kind not in host.leaves},
        "devices": list(changes(begun, observe()).devices),
    }


@dataclass(frozen=True)
class _Launcher:
    """Starts servers, one after the other."""

    probe: Probe
    host: engines.Host
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
        module = importlib.import_module(engines.MODULE)
        asked = {"log_level": "error", **self.leg.asked(str(self.model), self.device)}
        arguments = serving.arguments({**asked, **self.host.asked()}, graphs=self.leg.graphs, driven=False)
        told["asked"] = {name: asked[name] for name in settled.LOOKED_AT if name in asked}
        told["arguments"] = settled.values(arguments)
        try:
            engine = self.host.start(module.Engine, arguments, self.seam, self.deadline)
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
            still = [process.exitcode for process in processes]
            shared_memory.note_held(self.model.parent)
            engine.shutdown()
            told["ended"] = time.monotonic() - begun
            told["exits"] = self.host.exits(still, [process.exitcode for process in processes])

    def _generate(self, engine: Any, prompts: Sequence[Sequence[int]], new: int) -> list[list[int]]:
        parameters = {"temperature": 0.0, "max_new_tokens": new, "ignore_eos": True}
        with self.host.within(engine, self.deadline):
            answers = engine.generate(input_ids=[list(prompt) for prompt in prompts], sampling_params=parameters)
        return [[int(token) for token in answer["output_ids"]] for answer in answers]
