"""The resolved graph settings, as platforms find them among the server's arguments from 0.5.14 on.

SGLang makes them of the user's before it asks the platform, and keeps which of them the user chose (0.5.14,
srt/server_args.py; 0.5.23, srt/arg_groups/cuda_graph_hook.py).

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PHASES = ("decode", "prefill")

Key = tuple[str, str]
"""A phase, and what of it: ``("decode", "backend")``."""

_SWITCHES: Mapping[str, tuple[str, ...]] = {
    "disable_cuda_graph": PHASES,
    "disable_prefill_cuda_graph": ("prefill",),
    "disable_decode_cuda_graph": ("decode",),
}
_SETTINGS: Mapping[str, Key] = {
    f"cuda_graph_{key}_{phase}": (phase, key) for phase in PHASES for key in ("backend", "max_bs", "bs")
}


@dataclass
class GraphPhase:
    """How one phase of a model's forward pass is captured, as every release with such settings has it.

    0.5.14 and 0.5.23, srt/model_executor/cuda_graph_config.py.
    """

    backend: str = "disabled"
    max_bs: int | None = None
    bs: list[int] | None = None
    tc_compiler: str = "eager"


@dataclass
class GraphConfig:
    """Both phases; one is also had by its name."""

    decode: GraphPhase = field(default_factory=lambda: GraphPhase("full"))
    prefill: GraphPhase = field(default_factory=GraphPhase)

    def __getitem__(self, phase: str) -> GraphPhase:
        return {"decode": self.decode, "prefill": self.prefill}[phase]


def chosen_by(user: Mapping[str, Any]) -> dict[Key, Any]:
    """What the user's settings say of the phases: ``{("decode", "backend"): "disabled"}``."""
    found: dict[Key, Any] = {}
    for name, phases in _SWITCHES.items():
        if user.get(name):
            found.update({(phase, "backend"): "disabled" for phase in phases})
    for name, key in _SETTINGS.items():
        if user.get(name) is not None:
            found[key] = user[name]
    return found


def resolved(user: Mapping[str, Any]) -> Any:
    """The settings with the user's in them: of SGLang's own type where this host has it, else of the stand-in's."""
    config = _fresh()
    for (phase, key), value in chosen_by(user).items():
        setattr(getattr(config, phase), key, value)
    return config


def is_resolved(value: Any) -> bool:
    """Whether SGLang can read each phase's backend of the value, as it does once the platform was asked."""
    return all(isinstance(getattr(getattr(value, phase, None), "backend", None), str) for phase in PHASES)


def _fresh() -> Any:
    try:
        from sglang.srt.model_executor.cuda_graph_config import CudaGraphConfig, PhaseConfig
    except ImportError:
        return GraphConfig()
    return CudaGraphConfig(decode=PhaseConfig(backend="full"), prefill=PhaseConfig())
