"""``sglang.srt.compilation.backend``: who compiles a piece of a model's graph, and captures it.

Splitting a graph, and SGLang's own piecewise backends, are not here. Facts: SGLang 0.5.11, 0.5.21, 0.5.22 and 0.5.23,
srt/compilation/backend.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sglang_reference._errors import not_covered

from .. import platforms
from .._contract import since

__all__ = ["make_backend"]


def make_backend(
    graph: Any,
    compile_config: Any,
    inductor_config: Mapping[str, Any],
    graph_pool: Any,
    piecewise_compile_index: int,
    total_piecewise_compiles: int,
    sym_shape_indices: list[int],
    compiled_graph_for_general_shape: Callable[..., Any],
    sglang_backend: Any,
) -> Any:
    """The platform's piecewise backend of one piece, made of all nine arguments by position.

    Up to 0.5.21 an out-of-tree platform alone is asked, and must have one. Later every platform is, and
    NotImplementedError meets the out-of-tree one that has none. NotCovered where SGLang would take its own.
    """
    platform = platforms.current_platform
    made: Any = platform.get_piecewise_backend_cls() if since("0.5.22") or platform.is_out_of_tree() else None
    if made is None and since("0.5.22"):
        from ..platforms.interface import require_out_of_tree_impl

        hook, subsystem = "get_piecewise_backend_cls()", "piecewise compilation backend"
        require_out_of_tree_impl(platform, hook=hook, subsystem=subsystem)
    if made is None and not platform.is_out_of_tree():
        raise not_covered(f"the piecewise compilation backend of {platform.device_type}")
    return made(
        graph,
        compile_config,
        inductor_config,
        graph_pool,
        piecewise_compile_index,
        total_piecewise_compiles,
        sym_shape_indices,
        compiled_graph_for_general_shape,
        sglang_backend,
    )
