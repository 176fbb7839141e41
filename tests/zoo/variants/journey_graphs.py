"""Right ways to serve from graphs, other than the simulated plugin's."""

from __future__ import annotations

from zoo.defects.graphs import BEHIND
from zoo.defects.journey_graphs import _CAN_RUN, _CUT, _SIZES
from zoo.workshop import Edit, Variant

BY_GRAPHS = tuple(f"JOUR-{number:03}" for number in range(30, 39))
_DEADLINE = 30.0


def _graphs(name: str, why: str, *edits: Edit) -> Variant:
    return Variant(name, BY_GRAPHS, edits, why, of="sim", deadline=_DEADLINE)


VARIANTS = (
    _graphs(
        "graphs-on-streams-that-are-behind",
        "what a stream is given is done some time: who reads it on another stream, or on the host, waits for it",
        *BEHIND,
    ),
    _graphs(
        "runner-has-graphs-of-further-sizes",
        "capture_bs is the runner's own: SGLang reads from it what there is",
        Edit("decoding.py", _SIZES, _SIZES + "    sizes = sorted({1, *sizes, max(sizes) + 1})\n"),
    ),
    _graphs(
        "runner-fills-nothing-up",
        "SGLang's own runner refuses batches between two sizes where padding is disabled, and they run without a graph",
        Edit("graph_runner.py", _CAN_RUN, "        return forward_batch.batch_size in self._inputs\n"),
    ),
    _graphs(
        "runner-gives-outputs-of-their-own",
        "SGLang takes what the runner gives, in whatever memory",
        Edit("decoding.py", _CUT, f"{_CUT}.clone()"),
    ),
    _graphs(
        "graphs-without-warm-ups",
        "how often a step is run before its capture is the backend's own affair",
        Edit("graph_runner.py", "        for _ in range(WARM_UPS):\n", "        for _ in ():\n"),
    ),
)
