"""What a platform's backends make of a graph, beside what the graph computes.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from .. import expect
from . import operands, parts
from .made_pools import Layer

# Torch's own that make no code, and that which makes some for torch's own devices.
_CODELESS = ("eager", "aot_eager")
_INDUCTOR = "inductor"


def is_torchs_own(platform: Any, backend: Any) -> bool:
    """Whether a compile backend is torch's and makes no code, or code for a device of torch's: no vendor's."""
    return backend in _CODELESS or (backend == _INDUCTOR and platform.device_type == "cpu")


def compiles(platform: Any, answer: expect.Answer) -> None:
    """Fail where a function that is compiled with the backend gives something else, for one shape or another."""
    import torch

    call = f"torch.compile(function, backend={expect.show(answer.value, 40)}, dynamic=True)"
    compiled = torch.compile(_function, backend=answer.value, dynamic=True)
    for turn, rows in enumerate((3, 5, 3)):
        _same(platform, compiled, (rows, 8), turn, f"{call}: call {turn + 1}, of {rows} rows", answer.where)


def pieces(platform: Any, answer: expect.Answer) -> None:
    """Fail where the backend of a piece, made with SGLang's nine arguments, gives something else than the graph."""
    import torch

    graph = torch.fx.symbolic_trace(_function)
    where = expect.place(answer.value) or answer.where
    given: tuple[Any, ...] = (graph, _settings(), {}, None, 0, 1, [], lambda *values: graph(*values), _whole())
    name = getattr(answer.value, "__name__", expect.show(answer.value, 40))
    piece = parts.attempt(f"{name}(<nine arguments>)", lambda: answer.value(*given), where=where)
    told = f"{expect.show(piece)} ({type(piece).__name__})"
    expect.that(callable(piece), expected="something to call in the piece's place", seen=told, call=name, where=where)
    for turn in range(3):
        _same(platform, piece, (4, 8), turn, f"{name}(<nine arguments>): call {turn + 1}", where)


def _function(x: Any, y: Any) -> Any:
    return (x * y + x).relu() - y


def _same(platform: Any, compute: Any, shape: tuple[int, ...], turn: int, call: str, where: str) -> None:
    bench = operands.bench(platform, "float32")
    x, y = bench.drawn(shape, turn), bench.drawn(shape, turn + 7)
    seen = parts.attempt(call, lambda: compute(x.there, y.there), where=where)
    single = isinstance(seen, tuple | list) and len(seen) == 1
    seen = seen[0] if single else seen
    true = (x.true * y.true + x.true).clip(min=0) - y.true
    operands.close(bench, seen, true, "activation", call, where)


class _Settings(Layer):
    """SGLang's settings of compilation, as far as a piece asks them."""

    def get_capture_sizes(self) -> list[int]:
        """None is captured here."""
        return []

    def get_enable_debug_mode(self) -> bool:
        """No."""
        return False


def _settings() -> Any:
    """SGLang's own settings where this host has them."""
    try:
        return parts.part("CompilationConfig", "srt.compilation.compilation_config")([])
    except (expect.NotCovered, ImportError):
        return _Settings(capture_sizes=[], compiler="eager", enable_debug_mode=False, split_ops=[])


def _whole() -> Any:
    """SGLang's backend for the whole model, which a piece tells when it is done."""

    def compile_piece(graph: Any, *_: Any, **__: Any) -> Any:
        return graph

    return Layer(compiler_manager=SimpleNamespace(save_to_file=lambda: None, compile=compile_piece))
