"""Drawn worlds of platforms' members: those of every release, so that a release meets names that it does not have."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from sglang_conformance.contract import tables

from ..members import PARENTS, World
from ..releases import RELEASES

_TABLES = [tables.load(release).to_json() for release in RELEASES]
_MEMBERS = sorted({member["name"] for table in _TABLES for member in table["members"]} - {"_enum"})
_ENUM = sorted({name for table in _TABLES for name in table["platform_enum"]})
_FIELDS = sorted({name for table in _TABLES for name in table["capabilities"]})
_PARAMETERS = ("device_id", "device", "seed", "mode", "kind", "algorithm", "local_rank", "quant", "nonsense")

_VALUE = st.sampled_from((None, 0, 1, 7, "cpu", "mha", "dsa", "nonsense", "EAGLE", "npugraph_ex"))
_ARGUMENTS = st.one_of(st.just(()), st.just(()), st.tuples(_VALUE), st.tuples(_VALUE), st.tuples(_VALUE, _VALUE))
_KEYWORDS: Any = st.one_of(
    st.just({}), st.just({}), st.dictionaries(st.sampled_from(_PARAMETERS), _VALUE, min_size=1, max_size=1)
)
# What tells of the machine and its moment, and the members that only say something when entered.
_UNSTEADY = {"get_current_memory_usage", "get_available_memory", "seed_everything", "inference_mode"}
_CALLED = [name for name in _MEMBERS if name not in _UNSTEADY]
_NAME = st.one_of(st.sampled_from(_CALLED), st.sampled_from(_CALLED).map("class {}".format), st.just("get_nothing"))
_CALL = st.one_of(
    st.tuples(_NAME, _ARGUMENTS, _KEYWORDS),
    st.tuples(st.just("get_kv_pool_cls"), st.just(()), st.fixed_dictionaries({"kind": _VALUE})),
    st.tuples(st.just("(capabilities)"), st.one_of(st.just(()), st.tuples(st.sampled_from(_FIELDS))), st.just({})),
    st.tuples(st.just("(capability)"), st.tuples(st.integers(0, 12), st.integers(0, 12)), st.just({})),
    st.tuples(st.just("(seeded)"), st.tuples(st.one_of(st.none(), st.integers(0, 5))), st.just({})),
    st.tuples(st.just("(inference)"), st.just(()), st.just({})),
    st.tuples(st.just("(require)"), st.just(("get_graph_runner_cls", "graph runner")), st.just({})),
    st.tuples(st.just("(reject)"), st.just(("LoRA",)), st.just({})),
    st.tuples(st.just("(reindex)"), st.tuples(_VALUE), st.just({})),
)
_OVERRIDDEN = [*_CALLED, "get_mha_kv_pool_cls", "get_mla_kv_pool_cls", "get_dsa_kv_pool_cls", "get_nsa_kv_pool_cls"]
_DOES = st.sampled_from((None, 5, "text", True, "super", "attribute", "raises RuntimeError"))
_CAPABILITIES = st.dictionaries(st.sampled_from((*_FIELDS, "nonsense")), st.booleans(), max_size=4)


def _worlds() -> st.SearchStrategy[World]:
    return st.builds(
        World,
        st.sampled_from(PARENTS),
        st.one_of(st.just(""), st.just("OOT"), st.sampled_from(_ENUM), st.sampled_from(_ENUM), st.just("NONSENSE")),
        st.one_of(
            st.none(), st.tuples(st.sampled_from(("mlu", "cpu")), st.sampled_from(("mlu", "cpu", "cuda", "npu")))
        ),
        st.lists(st.tuples(st.sampled_from(_OVERRIDDEN), _DOES), max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
        st.one_of(st.none(), st.none(), _CAPABILITIES),
        st.lists(_CALL, min_size=1, max_size=8).map(tuple),
    )


@st.composite
def _legacy(draw: Any) -> World:
    """A platform with the pools of earlier releases, asked for them again and again."""
    kinds = st.sampled_from(("mha", "mla", "dsa", "nsa"))
    pools = draw(st.lists(kinds, min_size=1, max_size=2, unique=True))
    calls = draw(st.lists(kinds, min_size=2, max_size=5))
    return World(
        draw(st.sampled_from(PARENTS)),
        "OOT",
        None,
        tuple((f"get_{kind}_kv_pool_cls", draw(_DOES)) for kind in pools),
        None,
        tuple(("get_kv_pool_cls", (), {"kind": kind}) for kind in calls),
    )


WORLDS: Any = st.one_of(_worlds(), _worlds(), _worlds(), _worlds(), _legacy())
"""Worlds of :mod:`parity.members`."""
