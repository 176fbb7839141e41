"""What SGLang captures graphs of, from the user's settings: backend and batch sizes of each phase.

Facts: 0.5.11 to 0.5.13, srt/server_args.py (flags); 0.5.14 and later, srt/server_args.py and
srt/arg_groups/cuda_graph_hook.py (``cuda_graph_config``, and which of its keys are the user's).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import platforms
from .._contract import since
from .resolving import declare, settled

BY_PHASE = since("0.5.14")
"""Whether the settings are those of two phases, in ``cuda_graph_config``."""

_SWITCHES = {
    "disable_cuda_graph": ("decode", "prefill"),
    "disable_prefill_cuda_graph": ("prefill",),
    "disable_decode_cuda_graph": ("decode",),
}
_SETTINGS = {
    **{f"cuda_graph_{key}_{p}": (p, key) for key in ("backend", "max_bs", "bs") for p in ("decode", "prefill")},
    "cuda_graph_max_seq_len_prefill": ("prefill", "max_seq_len"),
    "cuda_graph_prefill_max_context": ("prefill", "max_context_size"),
}


def handle_graph_settings(arguments: Any) -> None:
    """Make ``cuda_graph_config`` of the user's settings, and note which keys are theirs; ask about pieces.

    Raises ValueError for a backend that the phase does not have.
    """
    from ..model_executor.cuda_graph_config import ALLOWED_BACKENDS_PER_PHASE, CudaGraphConfig, Phase

    values = settled(arguments)
    given = values.cuda_graph_config
    explicit = given.to_dict() if isinstance(given, CudaGraphConfig) else given or {}
    chosen: dict[tuple[str, str], Any] = {}
    for name, phases in _SWITCHES.items():
        if getattr(values, name, False):
            chosen.update({(phase, "backend"): "disabled" for phase in phases})
    for name, key in _SETTINGS.items():
        if getattr(values, name, None) is not None:
            chosen[key] = getattr(values, name)
    chosen.update({(phase, key): value for phase, keys in explicit.items() for key, value in keys.items()})
    config = CudaGraphConfig()
    for (phase, name), value in chosen.items():
        setattr(config[phase], name, value)
    declare(arguments, "cuda graph config", cuda_graph_config=config)
    arguments._cuda_graph_config_locked = set(chosen)
    if ("prefill", "backend") not in chosen and config.prefill.backend == "tc_piecewise" and not _in_pieces(arguments):
        disable(arguments, "prefill")
    for phase in Phase.ALL:
        backend = settled(arguments).cuda_graph_config[phase].backend
        if backend not in ALLOWED_BACKENDS_PER_PHASE[phase]:
            raise ValueError(
                f"cuda_graph_config[{phase}].backend={backend!r} is none of {ALLOWED_BACKENDS_PER_PHASE[phase]}"
            )


def handle_pieces(arguments: Any) -> None:
    """Switch off the capture of prefill in pieces where it cannot be; up to 0.5.13, after the platform's defaults."""
    if arguments.enforce_piecewise_cuda_graph:
        arguments.disable_piecewise_cuda_graph = False
        return
    # Every condition is looked at, and so the platform is always asked.
    platform = platforms.current_platform
    unable = platform.is_out_of_tree() and not platform.support_piecewise_cuda_graph()
    if _against_pieces(arguments) or unable:
        arguments.disable_piecewise_cuda_graph = True


def disable(arguments: Any, *phases: str) -> None:
    """Decide that these phases are not captured."""
    from ..model_executor.cuda_graph_config import CudaGraphConfig, Phase

    config = settled(arguments).cuda_graph_config
    changed = {p: replace(config[p], backend="disabled") if p in phases else config[p] for p in Phase.ALL}
    declare(arguments, "cuda graph config", cuda_graph_config=CudaGraphConfig(**changed))


def captures_decode(arguments: Any) -> bool:
    """Whether decode steps are to be captured, as far as the settings go."""
    values = settled(arguments)
    if not BY_PHASE:
        return not values.disable_cuda_graph
    return bool(values.cuda_graph_config.decode.backend != "disabled")


def captures_prefill(arguments: Any) -> bool:
    """Whether prefill is to be captured, as far as the settings go."""
    values = settled(arguments)
    if not BY_PHASE:
        return not values.disable_piecewise_cuda_graph
    return bool(values.cuda_graph_config.prefill.backend != "disabled")


def decode_sizes(arguments: Any) -> list[int]:
    """The batch sizes that decode is to be captured for."""
    values = settled(arguments)
    return list(values.cuda_graph_config.decode.bs if BY_PHASE else values.cuda_graph_bs)


def sizes_up_to(values: Any, most: int) -> list[int]:
    """The batch sizes that SGLang captures where the user names none."""
    if values.disable_cuda_graph_padding:
        sizes = list(range(1, most + 1))
    elif values.speculative_algorithm is None:
        sizes = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16), *range(512, most + 1, 32)]
    else:
        ranges = (range(1, 9), range(10, 33, 2), range(40, 65, 4), range(72, 257, 8), range(272, most + 1, 16))
        sizes = [size for each in ranges for size in each]
    sizes = [size for size in sizes if size <= most]
    return sizes if most in sizes else [*sizes, most]


def sizes_on_cpu(values: Any, most: int) -> list[int]:
    """The same on the CPU, whose graphs are torch.compile's."""
    if values.disable_cuda_graph_padding:
        return list(range(1, most + 1))
    sizes = {*range(1, 17), *range(18, 31, 2), *range(32, 81, 4), *range(84, most + 1, 8), most}
    return [size for size in sorted(sizes) if size <= most]


def tokens_up_to(most: int) -> list[int]:
    """The numbers of tokens that SGLang captures prefill for where the user names none."""
    ranges = (range(4, 33, 4), range(48, 257, 16), range(288, 513, 32), range(576, 1025, 64), range(1280, 4097, 256))
    sizes = [size for each in (*ranges, range(4608, most + 1, 512)) for size in each]
    return [size for size in sizes if size <= most]


def _in_pieces(arguments: Any) -> bool:
    """From 0.5.14 on the first condition that speaks against it ends the matter, before the platform is asked."""
    if _against_pieces(arguments):
        return False
    platform = platforms.current_platform
    return not platform.is_out_of_tree() or bool(platform.support_piecewise_cuda_graph())


def _against_pieces(arguments: Any) -> bool:
    values = settled(arguments)
    built_in = not platforms.current_platform.is_out_of_tree() and values.device != "cuda"
    return bool(values.enable_dp_attention or values.enable_torch_compile or values.pp_size > 1 or built_in)
