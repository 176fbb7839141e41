"""Which engine reduces a tensor over a group, and why: one pure function of facts.

Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/parallel_state.py (``GroupCoordinator.all_reduce``). An engine is asked
by its own rules whether it accepts a tensor; what is decided here is who is asked, in which order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ._releases import within

NONE = "none"
TORCH = "torch.distributed"
PYNCCL = "pynccl"

IN_PLACE = "inplace_all_reduce"
OUT_OF_PLACE = "outplace_all_reduce"
DIRECTLY = ""


class PassedOver(NamedTuple):
    """An engine that was not taken, or a generation of one, and why."""

    engine: str
    why: str


@dataclass(frozen=True)
class Inside:
    """What an engine tells of itself, for one tensor; empty where it does not.

    ``generation``: the one that the group has; ``passed_over``: the better ones, and why it has not got them.
    ``algorithm``: how the tensor would be reduced; ``refusal``: why it is not.
    """

    generation: str = ""
    algorithm: str = ""
    refusal: str = ""
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True)
class Engine:
    """What is known of one engine of a group, for one tensor.

    ``available`` is False for one that has no library under it, ``disabled`` is its own flag, ``accepts`` its own
    answer for the tensor, ``inside`` what it tells besides.
    """

    name: str
    available: bool = True
    disabled: bool = False
    accepts: bool = True
    inside: Inside = Inside()


@dataclass(frozen=True)
class Facts:
    """All that the choice depends on. ``bytes`` and ``dtype`` are the tensor's, ``contiguous`` its layout.

    ``on_host``: the tensor lies in host memory. ``capture``: a graph is being captured; ``piecewise``: one of its
    pieces is. ``symmetric_memory``: the run has it switched on.
    """

    world_size: int
    bytes: int = 0
    dtype: str = "float32"
    contiguous: bool = True
    on_host: bool = False
    engines: tuple[Engine, ...] = ()
    capture: bool = False
    piecewise: bool = False
    symmetric_memory: bool = False

    def engine(self, name: str) -> Engine | None:
        """The engine of that name; None where the group has none."""
        return next((engine for engine in self.engines if engine.name == name), None)


@dataclass(frozen=True)
class Decision:
    """The engine that reduces, why it does, and who was passed over before it, in order.

    ``via`` names the function of ``parallel_state`` that carries it out, where a hook on it would take effect: in
    place or out of place; empty where the coordinator calls the engine itself. ``inside`` is what the engine tells of
    its generation and algorithm.
    """

    engine: str
    reason: str
    passed_over: tuple[PassedOver, ...] = ()
    via: str = DIRECTLY
    inside: Inside = Inside()


@dataclass(frozen=True)
class Step:
    """One engine's turn: taken ``when`` its condition holds, ``unless`` one of these engines would take the tensor.

    ``first`` and ``gone`` are the releases between which SGLang takes the step.
    """

    engine: str
    when: str = "accepts"
    via: str = OUT_OF_PLACE
    unless: tuple[str, ...] = ()
    first: str = "0.5.11"
    gone: str = ""


STEPS: tuple[Step, ...] = (
    Step("hpu", via=DIRECTLY),
    Step("xpu", via=DIRECTLY, gone="0.5.15"),
    Step("xpu", via=IN_PLACE, first="0.5.15"),
    Step("npu", via=DIRECTLY, gone="0.5.23"),
    Step(PYNCCL, "symmetric memory", DIRECTLY, gone="0.5.14"),
    Step(PYNCCL, "symmetric memory", DIRECTLY, ("pymscclpp",), first="0.5.14", gone="0.5.19"),
    Step(PYNCCL, "symmetric memory", DIRECTLY, ("pymscclpp", "ca"), first="0.5.19"),
    Step("flashinfer", via="flashinfer_allreduce", first="0.5.18"),
    Step("ca", gone="0.5.14"),
    Step("ca", unless=("pymscclpp",), first="0.5.14"),
    Step("pcie_ipc", unless=("pymscclpp",), first="0.5.21"),
    Step("qr"),
    Step("pymscclpp"),
    Step("torch_symm_mem"),
    Step(PYNCCL, "piecewise capture"),
    Step(PYNCCL, "enabled", IN_PLACE),
)
"""The turns of all releases, in order; ``torch.distributed`` comes after the last."""


def steps_of(release: str) -> tuple[Step, ...]:
    """The turns of one release."""
    return tuple(step for step in STEPS if within(release, step.first, step.gone))


def decide(facts: Facts, steps: tuple[Step, ...]) -> Decision:
    """The engine for an all-reduce under these facts, among these turns."""
    if facts.world_size == 1:
        return Decision(NONE, "a group of one rank has nothing to reduce: the input is the result")
    if facts.on_host:
        return Decision(TORCH, "the tensor lies in host memory, which no engine of a device takes")
    passed: list[PassedOver] = []
    for step in steps:
        why = _refusal(facts, step)
        if why is None:
            engine = facts.engine(step.engine)
            inside = engine.inside if engine is not None else Inside()
            return Decision(step.engine, _reason(facts, step), tuple(passed), step.via, inside)
        passed.append(PassedOver(step.engine, why))
    asked = "no engine that comes before it takes the tensor" if facts.engines else "the group has no other engine"
    return Decision(TORCH, asked, tuple(passed), IN_PLACE)


def _refusal(facts: Facts, step: Step) -> str | None:
    """Why the turn passes; None where the engine takes the tensor."""
    engine = facts.engine(step.engine)
    if engine is None:
        return "the group has none"
    if not engine.available:
        return "it is not available"
    if step.when == "symmetric memory" and not facts.symmetric_memory:
        return "symmetric memory is not switched on"
    if step.when == "piecewise capture" and not facts.piecewise:
        return "no piece of a graph is being captured"
    if step.when in ("enabled", "accepts") and engine.disabled:
        why = "it is disabled outside a graph capture" if engine.name == PYNCCL and not facts.capture else "disabled"
        return _with(why, engine.inside.refusal)
    if step.when == "accepts" and not engine.accepts:
        return _with(f"it does not accept {_tensor(facts)}", engine.inside.refusal)
    preferred = next((name for name in step.unless if _takes(facts, name)), None)
    return None if preferred is None else f"{preferred} accepts the tensor and is preferred"


def _with(why: str, more: str) -> str:
    return f"{why}: {more}" if more else why


def _takes(facts: Facts, name: str) -> bool:
    engine = facts.engine(name)
    return engine is not None and engine.available and not engine.disabled and engine.accepts


def _reason(facts: Facts, step: Step) -> str:
    return {
        "accepts": f"it accepts {_tensor(facts)}",
        "symmetric memory": "symmetric memory is switched on",
        "piecewise capture": "a piece of a graph is being captured",
        "enabled": "it is enabled" + (", as a graph is being captured" if facts.capture else ""),
    }[step.when]


def _tensor(facts: Facts) -> str:
    return f"{facts.bytes} bytes of {facts.dtype}, {'contiguous' if facts.contiguous else 'not contiguous'}"
