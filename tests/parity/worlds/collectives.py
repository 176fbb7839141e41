"""Drawn worlds of collectives: calls that both ranks make alike, or refuse alike."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..collectives import GROUPS, Call, Tensor, World

_DTYPES = st.sampled_from(("float32", "float32", "float64", "bfloat16", "float16", "int32", "int64", "uint8", "bool"))
_SIZE = st.integers(0, 4)
_SHAPE = st.lists(_SIZE, max_size=3).map(tuple)
_EVEN = st.tuples(st.sampled_from((2, 4)), st.integers(1, 3))
_DIM = st.integers(-4, 3)
_SRC = st.sampled_from((0, 1, 0, 1, 2, -1))
_OBJECT = st.sampled_from((None, 5, "text", {"a": [1, 2]}, [None, "b"], 2.5))
_LAYOUT = st.sampled_from(("plain", "plain", "plain", "transposed", "strided"))


def _tensor(shape: Any = _SHAPE, **given: Any) -> Any:
    return st.builds(Tensor, shape, _DTYPES, st.integers(0, 3), _LAYOUT, **given)


# What one rank refuses to send, the other waits for.
_SENT = st.builds(Tensor, _SHAPE, _DTYPES, st.integers(0, 3))


def _call(name: str, tensors: Any = None, listed: bool = False, group: Any = None, **arguments: Any) -> Any:
    return st.builds(
        Call,
        st.sampled_from(GROUPS) if group is None else group,
        st.just(name),
        st.tuples(_tensor()) if tensors is None else tensors,
        st.fixed_dictionaries(arguments),
        st.just(listed),
    )


@st.composite
def _pairs(draw: Any, grows: bool) -> tuple[Tensor, Tensor]:
    """The output and the input of a call: one of them has twice the other's rows, or is wrong by one."""
    rows, columns = draw(_EVEN)
    dtype = draw(_DTYPES)
    most = 2 * rows + draw(st.sampled_from((0, 0, 0, 0, 1)))
    small, large = Tensor((rows, columns), dtype, 2), Tensor((most, columns), dtype, 1)
    return (large, small) if grows else (small, large)


@st.composite
def _uneven(draw: Any, whole: bool) -> Call:
    sizes = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    given = draw(st.sampled_from((None, list(sizes))))
    columns, dtype = draw(st.integers(1, 2)), draw(_DTYPES)
    if whole:
        total = sum(sizes) if given else 4
        tensor = Tensor((total, columns), dtype)
    else:
        tensor = Tensor((2, columns), dtype, sizes=sizes if given else ())
    name = "reduce_scatterv" if whole else "all_gatherv"
    return Call(draw(st.sampled_from(GROUPS)), name, (tensor,), {"sizes": given})


_SAME = st.builds(lambda one: (one, one), _tensor(_EVEN))
_OP = st.just("op")
_CALLS = st.one_of(
    _call("all_reduce"),
    _call("all_reduce"),
    _call("quant_all_reduce"),
    _call("all_gather"),
    _call("all_gather", dim=_DIM),
    _call("all_gather_into_tensor", _pairs(grows=True)),
    _call("reduce_scatter_tensor", _pairs(grows=False)),
    _call("all_to_all_single", _SAME),
    _call("reduce_scatter_along_dim", st.tuples(_tensor(_EVEN)), dim=st.integers(-2, 1)),
    _call("gather", st.tuples(_tensor(_EVEN)), dst=st.sampled_from((0, 1, 2)), dim=st.integers(-3, 2)),
    _call("broadcast", src=_SRC),
    _call("broadcast_object", st.just(()), obj=_OBJECT, src=st.sampled_from((0, 0, 1))),
    _call("broadcast_object_list", st.just(()), obj_list=st.lists(_OBJECT, min_size=1, max_size=3), src=_SRC),
    _call("all_gather_object", st.just(()), obj=_OBJECT),
    _call("barrier", st.just(())),
    _uneven(whole=False),
    _uneven(whole=True),
    _call("(send)", st.tuples(_SENT)),
    _call("(send object)", st.just(()), given=_OBJECT),
    _call("(send dictionary)", st.lists(_SENT, max_size=2).map(tuple), plain=_OBJECT),
    _call("(broadcast dictionary)", st.lists(_SENT, max_size=2).map(tuple), src=st.sampled_from((0, 1)), x=_OBJECT),
    _call("tensor_model_parallel_all_reduce", group=_OP),
    _call("tensor_model_parallel_all_gather", group=_OP, dim=_DIM),
    _call("tensor_model_parallel_gather", st.tuples(_tensor(_EVEN)), group=_OP, dst=st.sampled_from((0, 1))),
    _call("attention_tensor_model_parallel_all_reduce", group=_OP),
    _call("moe_tensor_model_parallel_all_reduce", group=_OP),
    _call("moe_expert_parallel_all_reduce", group=_OP),
)
WORLDS = st.builds(World, st.lists(_CALLS, min_size=1, max_size=4).map(tuple))
"""Worlds of :mod:`parity.collectives`."""
