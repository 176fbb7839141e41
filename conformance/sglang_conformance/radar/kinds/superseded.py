"""What took the place of members that SGLang dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Successor:
    """``names``: any of these does what the member did. ``mend``: what to write instead.

    ``declines``: where they are left out, SGLang takes it as False.
    """

    names: tuple[str, ...]
    mend: str
    declines: bool = False


_POOL = "override get_kv_pool_cls(self, *, kind) and answer the kind {kind!r}"


def _flag(field: str) -> Successor:
    # 0.5.22 reads the struct only: there is no fallback to the methods (srt/platforms/interface.py).
    return Successor(
        ("capabilities",), f"set the class attribute capabilities = PlatformCapabilities({field}=True)", True
    )


SUCCESSORS: Mapping[str, Successor] = {
    "support_cuda_graph": _flag("graph_capture"),
    "support_piecewise_cuda_graph": _flag("piecewise_graph"),
    "get_mha_kv_pool_cls": Successor(("get_kv_pool_cls",), _POOL.format(kind="mha")),
    "get_mla_kv_pool_cls": Successor(("get_kv_pool_cls",), _POOL.format(kind="mla")),
    "get_dsa_kv_pool_cls": Successor(("get_kv_pool_cls",), _POOL.format(kind="dsa")),
    # 0.5.13 renamed the sparse attention and its pool.
    "get_nsa_kv_pool_cls": Successor(
        ("get_dsa_kv_pool_cls", "get_kv_pool_cls"),
        "name it get_dsa_kv_pool_cls as well; from 0.5.22 on " + _POOL.format(kind="dsa"),
    ),
}
