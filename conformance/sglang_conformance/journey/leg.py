"""One way to serve: a model, how it is split among ranks, what the user asked for, and the requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .checkpoints import CHECKPOINTS, Checkpoint

if TYPE_CHECKING:
    from ..oracles.decoders.decoder import Decoder

_SLOTS = 512
_REQUESTS = 16


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

    @property
    def decoder(self) -> Decoder:
        """The oracle of the model, made once a process."""
        return _decoder(self.model)

    def asked(self, folder: str, device: str) -> dict[str, Any]:
        """What the user asks for: nothing about attention, so that it is the platform's to choose.

        The device is named: where a machine has CUDA too, SGLang takes that (0.5.23, srt/utils/common.py).
        """
        return {
            "model_path": folder,
            "skip_tokenizer_init": True,
            "device": device,
            "dtype": self.dtype,
            "tp_size": self.tp,
            "pp_size": self.pp,
            "ep_size": self.ep,
            "random_seed": 42,
            "mem_fraction_static": 0.5,
            "max_total_tokens": _SLOTS,
            "max_running_requests": _REQUESTS,
            "disable_radix_cache": True,
            **dict(self.arguments),
        }

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
        return replace(self, arguments=tuple({**dict(self.arguments), **asked}.items()))


@lru_cache(maxsize=8)
def _decoder(model: str) -> Decoder:
    from ..oracles.decoders.decoder import Decoder

    checkpoint = CHECKPOINTS[model]
    return Decoder.of(checkpoint.config, checkpoint.weights())
