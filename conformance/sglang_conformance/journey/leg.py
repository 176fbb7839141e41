"""One way to serve: a model, how it is split among ranks, what the user asked for, and the requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .checkpoints import CHECKPOINTS, Checkpoint


@dataclass(frozen=True)
class Request:
    """A prompt, how many tokens to make of it, and when it comes and goes.

    ``arrives`` and ``leaves`` are numbers of steps of the server; it is cancelled when it leaves.
    """

    name: str
    prompt: tuple[int, ...]
    new: int
    arrives: int = 0
    leaves: int | None = None


@dataclass(frozen=True)
class Leg:
    """One part of the journey.

    ``graphs`` are the batch sizes that decode steps are captured for. ``arguments`` are what the user asks for besides,
    by the names of SGLang's arguments.
    """

    model: str = "llama"
    tp: int = 1
    pp: int = 1
    ep: int = 1
    dtype: str = "float32"
    graphs: tuple[int, ...] = ()
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def size(self) -> int:
        """How many ranks serve."""
        return self.tp * self.pp

    @property
    def checkpoint(self) -> Checkpoint:
        """The model. Raises KeyError for one that there is not."""
        return CHECKPOINTS[self.model]

    def to_json(self) -> dict[str, Any]:
        """The leg as plain data; :meth:`from_json` reads it back unchanged."""
        return {**vars(self), "graphs": list(self.graphs), "arguments": [list(pair) for pair in self.arguments]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Leg:
        """Read a leg; raises KeyError or TypeError where the data is not one."""
        arguments = tuple((name, value) for name, value in data["arguments"])
        return cls(**{**data, "graphs": tuple(data["graphs"]), "arguments": arguments})

    def __str__(self) -> str:
        split = [f"{name} {size}" for name, size in (("TP", self.tp), ("PP", self.pp), ("EP", self.ep)) if size > 1]
        asked = [f"{name}={value!r}" for name, value in self.arguments]
        parts = [self.model, *split, "graphs" if self.graphs else "eager", self.dtype, *asked]
        return ", ".join(parts)

    def with_arguments(self, asked: Mapping[str, Any]) -> Leg:
        """The same leg, with more asked for."""
        from dataclasses import replace

        return replace(self, arguments=tuple({**dict(self.arguments), **asked}.items()))
