"""Drawn worlds of group layouts: mostly sizes that divide each other, as SGLang's own arguments would have them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..layouts import SWITCHES, World

_MOST = 16


def _divisor(of: int) -> Any:
    return st.sampled_from([size for size in range(1, of + 1) if of % size == 0])


_LEAVING = ("leave", "quit")
# ``ensure`` comes last, as what it fails by in some releases is known, and all that would follow from it.
_LAST = ((), (), (*_LEAVING, "survey"), (*_LEAVING, "join", "lay_out", "survey"), ("ensure",), ("leave", "ensure"))


@st.composite
def _sizes(draw: Any) -> tuple[int, dict[str, int]]:
    tp = draw(st.sampled_from((1, 2, 3, 4, 4, 6, 8, 8, 12)))
    pp = draw(st.integers(1, _MOST // tp))
    attn_cp = draw(_divisor(tp))
    attn_dp = draw(_divisor(tp // attn_cp))
    moe_ep = draw(_divisor(tp))
    moe_dp = draw(_divisor(tp // moe_ep))
    sizes = {"tp": tp, "pp": pp, "attn_cp": attn_cp, "attn_dp": attn_dp, "moe_ep": moe_ep, "moe_dp": moe_dp}
    given = {name: size for name, size in sizes.items() if size > 1 or draw(st.booleans())}
    if draw(st.integers(0, 9)) == 0:
        given["dcp"] = draw(st.sampled_from((1, 2, 0)))
    if draw(st.integers(0, 4)) == 0:
        given["shared_experts"] = draw(_divisor(tp // attn_cp // attn_dp))
    return tp * pp, given


@st.composite
def _worlds(draw: Any) -> World:
    size, sizes = draw(_sizes())
    size = draw(st.one_of(st.just(size), st.just(size), st.just(size), st.just(size), st.integers(1, _MOST)))
    joining = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "local_rank": st.sampled_from((-1, 0, 3)),
                "timeout": st.sampled_from((None, 60, 0, -1, 1.5, True)),
                "distributed_init_method": st.sampled_from(("env://", "tcp://127.0.0.1:1", None)),
                "moe_a2a_backend": st.sampled_from((None, "deepep")),
            },
        )
        if draw(st.booleans())
        else st.just({})
    )
    making = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "backend": st.sampled_from((None, "gloo", "cncl")),
                "duplicate_tp_group": st.booleans(),
                "enable_symm_mem": st.booleans(),
                "duplicate_attn_cp_group": st.booleans(),
            },
        )
        if draw(st.booleans())
        else st.just({})
    )
    switch = st.builds("{} {}".format, st.sampled_from(SWITCHES), st.sampled_from(("on", "off")))
    before = draw(st.lists(switch, max_size=2))
    after = draw(st.lists(st.sampled_from(("survey", "join", "lay_out", "leave", "add")), max_size=4))
    last = draw(st.sampled_from(_LAST))
    return World(
        size,
        draw(st.integers(0, size - 1)),
        sizes,
        draw(st.sampled_from(("gloo", "gloo", "cpu:gloo,mlu:cncl", "nccl"))),
        joining,
        making,
        draw(st.sampled_from(({}, {}, {"LOCAL_RANK": "2"}, {"LOCAL_SIZE": "4"}))),
        (*before, "join", "lay_out", "survey", *after, *last),
    )


WORLDS = _worlds()
"""Worlds of :mod:`parity.layouts`."""
