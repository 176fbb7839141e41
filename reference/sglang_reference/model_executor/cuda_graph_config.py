"""``sglang.srt.model_executor.cuda_graph_config``: which graphs are captured, phase by phase; from 0.5.14 on.

Facts: SGLang 0.5.14, 0.5.16, 0.5.21 and 0.5.23, srt/model_executor/cuda_graph_config.py. Reading the command line's
JSON is not here. Nothing here imports torch, nor the server's arguments before it is asked for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any

from .._contract import since
from .._released import Lifetime, withdraw

__all__ = [
    "ALLOWED_BACKENDS_PER_PHASE",
    "ALLOWED_KEYS_PER_PHASE",
    "Backend",
    "CudaGraphConfig",
    "Phase",
    "PhaseConfig",
    "check_cuda_graph_backend",
    "cuda_graph_fully_disabled",
    "default_cuda_graph_config",
    "default_prefill_backend",
    "with_phase",
]


class Phase:
    """The two phases of a model's forward pass."""

    DECODE = "decode"
    PREFILL = "prefill"
    ALL = (DECODE, PREFILL)


class Backend:
    """How a phase can be captured. ``TC_PIECEWISE`` cannot be chosen any more from 0.5.22 on."""

    FULL = "full"
    BREAKABLE = "breakable"
    TC_PIECEWISE = "tc_piecewise"
    DISABLED = "disabled"
    ALL = (FULL, BREAKABLE, DISABLED) if since("0.5.22") else (FULL, BREAKABLE, TC_PIECEWISE, DISABLED)


_KEYS = ["backend", "max_bs", "bs"] + ([] if since("0.5.22") else ["tc_compiler"])
_OF_PREFILL = {
    "max_context_size": Lifetime("0.5.21"),
    "full_prefill_max_req": Lifetime("0.5.15"),
    "full_prefill_prefix_chunk_tokens": Lifetime("0.5.18"),
    "max_seq_len": Lifetime("0.5.21"),
}
_MORE = [name for name, lifetime in _OF_PREFILL.items() if lifetime.holds()]

ALLOWED_KEYS_PER_PHASE = {Phase.DECODE: tuple(_KEYS), Phase.PREFILL: (*_KEYS, *_MORE)}
ALLOWED_BACKENDS_PER_PHASE = dict.fromkeys(Phase.ALL, Backend.ALL)


@dataclass
class _PhaseConfig:
    backend: str = Backend.DISABLED
    max_bs: int | None = None
    bs: list[int] | None = None
    tc_compiler: str = "eager"


PhaseConfig: Any = make_dataclass(
    "PhaseConfig",
    [(name, Any, None) for name in _MORE],
    bases=(_PhaseConfig,),
    namespace={"__doc__": "How one phase is captured: backend and sizes; prefill's sizes are numbers of tokens."},
)
PhaseConfig.__module__ = __name__


def default_prefill_backend() -> str:
    """Breakable on CUDA; elsewhere in pieces up to 0.5.21, and later not at all. In pieces everywhere in 0.5.14."""
    return _prefill_backend()


def _prefill_backend() -> str:
    from .. import platforms

    if since("0.5.15") and platforms.current_platform.is_cuda():
        return Backend.BREAKABLE
    return Backend.DISABLED if since("0.5.22") else Backend.TC_PIECEWISE


def with_phase(config: CudaGraphConfig, phase: str, **changes: Any) -> CudaGraphConfig:
    """A copy of the settings with changes to one phase; KeyError for a phase that there is not."""
    if phase not in Phase.ALL:
        raise KeyError(phase)
    return CudaGraphConfig(**{each: replace(config[each], **(changes if each == phase else {})) for each in Phase.ALL})


@dataclass
class CudaGraphConfig:
    """The settings of both phases."""

    decode: Any = field(default_factory=lambda: PhaseConfig(backend=Backend.FULL))
    prefill: Any = field(default_factory=lambda: PhaseConfig(backend=_prefill_backend()))

    def __getitem__(self, phase: str) -> Any:
        if phase not in Phase.ALL:
            raise KeyError(phase)
        return getattr(self, phase)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """What differs from the defaults, by phase and key."""
        usual = default_cuda_graph_config()
        return {phase: _difference(self[phase], usual[phase]) for phase in Phase.ALL}

    @classmethod
    def from_dict(cls, raw: dict[str, dict[str, Any]] | None) -> CudaGraphConfig:
        """The defaults with these changes; unknown phases and keys are left out."""
        config = cls()
        for phase, settings in (raw or {}).items():
            if phase in Phase.ALL and isinstance(settings, dict):
                for key in settings.keys() & set(ALLOWED_KEYS_PER_PHASE[phase]):
                    setattr(config[phase], key, settings[key])
        return config


def default_cuda_graph_config() -> CudaGraphConfig:
    """Fresh settings, all of them the defaults."""
    return CudaGraphConfig()


def check_cuda_graph_backend(phase: str, backend: str) -> bool:
    """Whether the arguments of this process have that backend for the phase; False where there are none yet."""
    from .._arguments.published import published
    from .._arguments.resolving import settled

    arguments = published()
    config = None if arguments is None else settled(arguments).cuda_graph_config
    return config is not None and phase in Phase.ALL and bool(config[phase].backend == backend)


def cuda_graph_fully_disabled() -> bool:
    """Whether no phase is captured."""
    return all(check_cuda_graph_backend(phase, Backend.DISABLED) for phase in Phase.ALL)


def _difference(actual: Any, usual: Any) -> dict[str, Any]:
    return {
        f.name: getattr(actual, f.name) for f in fields(actual) if getattr(actual, f.name) != getattr(usual, f.name)
    }


_ABSENT = withdraw(globals(), {"default_prefill_backend": Lifetime("0.5.15"), "with_phase": Lifetime("0.5.19")})
