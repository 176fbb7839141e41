"""The reference's PyNCCL on real ranks over the host library, against numpy; and what of it needs no ranks."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import sglang_reference
from reference.pynccl_ranks import MISSING, NCCL, WRAPPER, Pools, ranks
from sglang_conformance.contract import tables
from sglang_conformance.ranks.pool import Pool

TYPES = ["int8", "uint8", "int32", "int64", "float16", "float32", "float64", "bfloat16"]
METHODS = {
    "all_reduce",
    "outplace_all_reduce",
    "outplace_all_reduce into",
    "all_gather",
    "all_gather of sizes",
    "reduce_scatter",
    "reduce_scatter of sizes",
    "send",
    "recv",
    "broadcast",
    "all_to_all_single",
}


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pools]:
    with ranks(str(tmp_path_factory.mktemp("meeting"))) as made:
        yield made


@pytest.fixture(scope="module")
def pool(pools: Pools) -> Pool:
    return pools.joined


def run(pool: Pool, name: str, size: int = 2, seconds: float = 30.0, **given: Any) -> tuple[Any, ...]:
    report = pool.run(f"reference.pynccl_{name}", given, size=size, seconds=seconds)
    assert not report.failures, report.text()
    return report.values


# Every method, by value.


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_method_gives_what_it_is_defined_to_give(pool: Pool, size: int, dtype: str) -> None:
    run(pool, "values:reductions", size, dtype=dtype, rows=3)
    run(pool, "values:movements", size, dtype=dtype, rows=3)


# Up to and beyond what the library moves in one step (64 KiB) and holds at once (1 MiB).
@pytest.mark.parametrize("rows", [0, 1, 5_461, 5_462, 90_001])
@pytest.mark.parametrize("size", [2, 3])
def test_every_length(pool: Pool, size: int, rows: int) -> None:
    run(pool, "values:reductions", size, dtype="float32", rows=rows, operations=["sum"])
    run(pool, "values:movements", size, dtype="float32", rows=rows)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (7,), (5, 1, 3)])
def test_tensors_of_any_shape(pool: Pool, shape: tuple[int, ...]) -> None:
    run(pool, "values:of_any_shape", 3, shape=list(shape))


@pytest.mark.parametrize("size", [2, 3])
def test_reductions_take_elements_in_any_order(pool: Pool, size: int) -> None:
    run(pool, "values:in_any_order", size)


@pytest.mark.parametrize("size", [2, 3])
def test_operations_of_a_group_are_done_at_its_end(pool: Pool, size: int) -> None:
    run(pool, "values:grouped", size)


def test_two_communicators_of_the_same_ranks(pool: Pool) -> None:
    run(pool, "lives:two_at_once", 3)


def test_memory_is_registered_and_forgotten(pool: Pool) -> None:
    for rank, [kind, said] in enumerate(run(pool, "lives:windows")):
        assert kind == "RuntimeError"
        assert f"ncclCommWindowDeregister on rank {rank} of 2" in said


# What is refused.


def test_while_disabled_nothing_is_done(pool: Pool) -> None:
    run(pool, "refusals:disabled")


@pytest.mark.parametrize("size", [2, 3])
def test_tensors_that_do_not_fit_are_refused_and_nothing_is_written(pool: Pool, size: int) -> None:
    """Names and methods: see ``refusals``. ``one`` is a rank's share, ``all`` are all ranks' together."""
    one_more, below = [*[4] * size, 0], [-4, *[4] * (size - 2), 8]
    calls: list[tuple[str, list[str], dict[str, Any]]] = [
        *(("all_reduce", [given], {}) for given in ("gaps", "repeated", "meta")),
        *(("send", [given], {"dst": 0}) for given in ("gaps", "repeated", "turned", "meta")),
        *(("recv", [given], {"src": 0}) for given in ("gaps", "repeated", "turned", "meta")),
        *(("broadcast", [given], {"src": 0}) for given in ("gaps", "repeated", "turned", "meta")),
        *(("outplace_all_reduce", [given], {}) for given in ("gaps", "repeated", "meta")),
        *(("outplace_all_reduce", ["one", out], {}) for out in ("gaps", "repeated", "three", "int", "meta")),
        *(("outplace_all_reduce", [given, "square"], {}) for given in ("all", "turned")),
        *(("all_gather", ["all", given], {}) for given in ("gaps", "repeated", "three", "int", "meta")),
        *(("all_gather", [out, "one"], {}) for out in ("gap", "turned", "repeats", "three", "more", "ints", "metas")),
        *(("all_gather", ["all", "one"], {"sizes": sizes}) for sizes in ([4 * size], one_more, "sizes of 5")),
        *(("all_gather", ["short", "one"], {"sizes": sizes}) for sizes in (below, below[::-1])),
        ("all_gather", ["more", "one"], {"sizes": "sizes"}),
        *(("all_gather", ["all", given], {"sizes": "sizes"}) for given in ("gaps", "three", "int", "meta")),
        *(("reduce_scatter", ["one", given], {}) for given in ("gap", "turned", "repeats", "more", "ints", "metas")),
        *(("reduce_scatter", [out, "all"], {}) for out in ("gaps", "repeated", "three", "int", "meta")),
        *(("reduce_scatter", ["one", "all"], {"sizes": sizes}) for sizes in ([4 * size], one_more, "sizes of 5")),
        *(("reduce_scatter", ["one", "short"], {"sizes": sizes}) for sizes in (below, below[::-1])),
        ("reduce_scatter", ["one", "more"], {"sizes": "sizes"}),
        *(("reduce_scatter", [out, "all"], {"sizes": "sizes"}) for out in ("gaps", "three", "int", "meta")),
        *(("all_to_all_single", ["all", given], {}) for given in ("gap", "turned", "three", "more", "ints", "metas")),
        *(("all_to_all_single", [out, "all"], {}) for out in ("gap", "turned", "repeats", "three", "ints", "metas")),
        ("all_to_all_single", ["more", "more"], {}),
    ]
    for found in run(pool, "refusals:refusals", size, calls=calls):
        taken = [(call, kind) for call, (kind, _) in zip(calls, found, strict=True) if kind != "AssertionError"]
        assert taken == []
        told = [said for _, said in found]
        assert told[2] == "PyNCCL works on cpu here, and a tensor is on meta"
        assert "make it contiguous" in told[0]
        assert any(said.startswith(f"the output has {4 * size + 1} elements, and needs {4 * size}") for said in told)


def test_types_and_reductions_that_nccl_does_not_have_are_refused(pool: Pool) -> None:
    dtypes = ["bool", "uint16", "uint32", "uint64", "int16", "complex64", "float8_e4m3fn"]
    reductions = {f"{op}: {name}" for op in ("BAND", "BOR", "BXOR") for name in ("all_reduce", "reduce_scatter")}
    for found in run(pool, "refusals:unknown_types", dtypes=dtypes):
        said = {name.removeprefix("RedOpType."): kind for name, (kind, _) in found.items()}
        assert set(said) == {f"{dtype}: {name}" for dtype in dtypes for name in METHODS} | reductions
        assert set(said.values()) == {"ValueError"}
        assert "torch.uint16" in found["uint16: send"][1]


def test_errors_of_the_library_tell_rank_call_and_its_message(pool: Pool) -> None:
    for rank, found in enumerate(run(pool, "refusals:library_errors", 3)):
        assert {kind for kind, _ in found.values()} == {"RuntimeError"}
        refused = f"on rank {rank} of 3: invalid argument (run with NCCL_DEBUG=WARN for details)"
        assert found["broadcast"][1] == (
            f"NCCL error in ncclBroadcast {refused} (ncclBroadcast: root 3 is none of 3 ranks)"
        )
        assert found["send"][1] == f"NCCL error in ncclSend {refused} (ncclSend: peer 3 is none of 3 ranks)"
        assert found["recv"][1] == f"NCCL error in ncclRecv {refused} (ncclRecv: peer -1 is none of 3 ranks)"
        assert "invalid usage" in found["group_end"][1]


def test_after_an_error_within_a_group_the_thread_is_in_no_group(pool: Pool) -> None:
    for rank, found in enumerate(run(pool, "refusals:failing_group")):
        for (kind, said), (end, outside) in zip(found[::2], found[1::2], strict=True):
            assert (kind, end) == ("RuntimeError", "RuntimeError")
            assert f"on rank {rank} of 2" in said
            assert "0x10 is no communicator" in said
            assert "not in a group call" in outside


def test_calls_that_do_not_match_are_told_on_every_rank(pool: Pool) -> None:
    first, second = run(pool, "refusals:disagreeing")
    assert "rank 0 calls ncclAllReduce of 4 float32, sum, but rank 1 calls ncclAllReduce of 5" in first[0][1]
    assert "rank 1 calls ncclAllReduce of 5 float32, sum, but rank 0 calls ncclAllReduce of 4" in second[0][1]
    for rank, ([kind, said], [still, _], error) in enumerate((first, second)):
        assert (kind, still, error) == ("RuntimeError", "RuntimeError", 5)
        assert f"NCCL error in ncclAllReduce on rank {rank} of 2: invalid usage" in said


def test_rank_that_ends_is_told_to_the_others(pool: Pool) -> None:
    report = pool.run("reference.pynccl_refusals:deserted", size=2)
    assert report.ranks[1].failure is not None
    kind, said = report.ranks[0].value
    assert kind == "RuntimeError"
    assert "ncclAllReduce on rank 0 of 2: remote process exited" in said


# Coming to life, and its end.


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize(
    ("group", "device", "path"),
    [("world", "cpu", "host"), ("world", "device cpu", None), ("stateless", "cpu", "host")],
)
def test_communicator_comes_to_life_disabled(pool: Pool, size: int, group: str, device: str, path: str | None) -> None:
    for rank, found in enumerate(run(pool, "lives:made", size, group=group, device=device, path=path)):
        assert found == {
            "rank": rank,
            "world_size": size,
            "available": True,
            "disabled": True,
            "device": "cpu",
            "version": 23203,
            "tried": ["ncclCommInitRank", "ncclAllReduce"],
        }


@pytest.mark.parametrize("device", [0, "cpu:0"])
def test_device_of_the_host_by_its_number(pool: Pool, device: int | str) -> None:
    run(pool, "lives:made", device=device)


def test_where_one_ranks_hook_fails_in_its_own_way_no_rank_is_available(pool: Pool) -> None:
    for available, why in run(pool, "lives:broken_hook", seconds=5):
        assert not available
        assert "the vendor's own error" in why


def test_want_of_an_id_ends_on_all_ranks(pool: Pool) -> None:
    for kind, said in run(pool, "lives:without_an_id", seconds=2):
        assert kind == "RuntimeError"
        assert "no network" in said


def test_ranks_of_a_part_have_numbers_of_their_own(pool: Pool) -> None:
    assert run(pool, "lives:in_parts", 4) == ([], [0, 3], [1, 3], [2, 3])


@pytest.mark.parametrize(("who", "group"), [([0], "world"), ([2], "world"), ([0, 1, 2], "world"), ([1], "stateless")])
def test_where_one_rank_has_no_library_no_rank_is_available(pool: Pool, who: list[int], group: str) -> None:
    for found in run(pool, "lives:lacking", 3, who=who, group=group):
        assert (found["available"], found["disabled"]) == (False, True)
        assert found["why"].startswith(f"rank {who[0]}: {MISSING}")
        assert found["seconds"] < 5
        assert set(found["errors"]) == METHODS
        for kind, said in found["errors"].values():
            assert kind == "RuntimeError"
            assert said.endswith(found["why"])


def test_on_the_cpu_there_is_no_library_unasked(pool: Pool) -> None:
    for available, disabled, why in run(pool, "lives:unasked"):
        assert (available, disabled) == (False, True)
        assert "rank 0: the device in use has no library" in why
        assert "SGLANG_NCCL_SO_PATH" in why


def test_group_of_nccl_is_refused(pool: Pool) -> None:
    for kind, said in run(pool, "lives:on_a_group_of_nccl"):
        assert kind == "AssertionError"
        assert "cannot meet over a group of NCCL" in said


def test_join_that_fails_on_one_rank_ends_on_all(pool: Pool) -> None:
    found = run(pool, "lives:joining_wrongly", 3)
    for rank, ([kind, said], seconds) in enumerate(found):
        assert kind == "RuntimeError"
        assert f"NCCL error in ncclCommInitRank on rank {rank} of 3" in said
        assert seconds < 5
    assert any("ranks, another came for" in said for [_, said], _ in found)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, {}),
        ({"is_symmetric_memory_enabled": False, "cta_policy": None}, {}),
        ({"is_symmetric_memory_enabled": True}, {"CTAPolicy": -(2**31), "graphUsageMode": 1}),
        ({"cta_policy": 2}, {"CTAPolicy": 2, "graphUsageMode": -(2**31)}),
        ({"cta_policy": 0}, {"CTAPolicy": 0, "graphUsageMode": -(2**31)}),
        ({"cta_policy": 0, "is_symmetric_memory_enabled": True}, {"CTAPolicy": 0, "graphUsageMode": 1}),
    ],
)
def test_configuration_is_made_where_something_is_wished_for(pool: Pool, given: Any, fields: dict[str, int]) -> None:
    always = {"size": 96, "magic": 0xCAFEBEEF, "blocking": -(2**31)}
    for found in run(pool, "lives:configured", **given):
        assert found == (always | fields if fields else {})


def test_communicator_that_was_given_back_is_off(pool: Pool) -> None:
    for kind, said in run(pool, "lives:destroyed"):
        assert kind == "RuntimeError"
        assert said.endswith("it was destroyed")


def test_communicators_come_and_go_without_a_trace(pool: Pool) -> None:
    assert run(pool, "lives:come_and_go", times=10) == ([0, 0, 0], [0, 0, 0])


@pytest.mark.parametrize(("release", "exchanges"), [("0.5.11", False)])
def test_communicator_of_an_early_release(pools: Pools, tmp_path: Path, release: str, exchanges: bool) -> None:
    for found in run(pools.fresh, "lives:of_an_early_release", folder=str(tmp_path), release=release):
        assert found == {"gathered": [0, 1], "disabled": True, "exchanges": exchanges}


# In a group of the reference.


@pytest.mark.parametrize("size", [2, 3])
def test_group_has_the_library_that_the_environment_names(pool: Pool, size: int) -> None:
    for found in run(pool, "groups:coordinated", size):
        assert (found["available"], found["disabled"], found["group"]) == (True, True, True)
        assert found["device"] == "cpu"
        name, by, path, version = found["library"]
        assert (name, by, version) == ("host", "SGLANG_NCCL_SO_PATH", "2.32.3")
        assert path.endswith("sglang_host_nccl/__init__.py")
        # Tensors on the host, then elsewhere; then both while a graph is captured.
        assert found["engines"] == ["torch.distributed", "torch.distributed", "torch.distributed", "pynccl"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
@pytest.mark.parametrize(
    ("sizes", "even", "calls"),
    [
        ([2, 0, 3], False, ["ncclBroadcast", "ncclReduce"]),
        ([0, 4, 0], False, ["ncclBroadcast", "ncclReduce"]),
        ([3, 3, 3], False, ["ncclAllGather", "ncclReduce"]),
        ([3, 3, 3], True, ["ncclAllGather", "ncclReduceScatter"]),
    ],
)
def test_uneven_collectives_are_the_same_with_and_without(
    pool: Pool, dtype: str, sizes: list[int], even: bool, calls: list[str]
) -> None:
    assert run(pool, "groups:uneven", 3, dtype=dtype, sizes=sizes, even=even) == (calls,) * 3


@pytest.mark.parametrize("size", [2, 3])
def test_group_uses_it_while_a_graph_is_captured(pool: Pool, size: int) -> None:
    for found in run(pool, "groups:captured", size):
        assert (found["enabled"], found["after"], found["after an error"]) == (True, True, True)
        assert found["called"] == {
            "gather": ["ncclAllGather"],
            "scatter": ["ncclReduceScatter"],
            "broadcast": ["ncclBroadcast"],
            "exchange": ["ncclSend", "ncclRecv"],
            "send": ["ncclSend"],
            "receive": ["ncclRecv"],
        }


def test_rows_with_gaps_between_them_are_refused_and_leave_no_group_open(pool: Pool) -> None:
    for [kind, said], [end, outside] in run(pool, "groups:refused_in_a_group"):
        assert (kind, end) == ("AssertionError", "RuntimeError")
        assert "make it contiguous" in said
        assert "not in a group call" in outside


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
@pytest.mark.parametrize("library", [True, False])
def test_group_gives_it_back_and_does_without_it(pools: Pools, tmp_path: Path, release: str, library: bool) -> None:
    for found in run(pools.fresh, "groups:of_a_group", folder=str(tmp_path), release=release, library=library):
        assert (found["available"], found["enabled"], found["held"] > 0) == (library,) * 3
        assert found["results"] == [[1, 1], [1], [[2, 2]], [2, 2]]
        assert (found["left"], found["after"]) == (0, False)
        assert library or "no library" in found["why"]


@pytest.mark.parametrize(
    ("release", "calls"),
    [
        ("0.5.15", []),
        ("0.5.20", ["ncclSend", "ncclRecv"]),
        ("0.5.21", ["ncclBroadcast", "ncclSend", "ncclRecv"]),
    ],
)
def test_group_moves_by_it_what_its_release_does(pools: Pools, tmp_path: Path, release: str, calls: list[str]) -> None:
    first, second = run(pools.fresh, "groups:moved_in", folder=str(tmp_path), release=release)
    assert first == [[1, 1], [0, 10], calls]
    assert second == [[1, 1], [1, 11], calls]


def test_group_and_its_duplicate_for_prefill_have_it_enabled(pools: Pools, tmp_path: Path) -> None:
    assert run(pools.fresh, "groups:duplicated", folder=str(tmp_path)) == ([False, False],) * 2


# On an accelerator, which is simulated.


def test_work_goes_to_the_stream_that_is_current_and_into_graphs(pools: Pools, tmp_path: Path) -> None:
    for rank, found in enumerate(run(pools.fresh, "groups:simulated", folder=str(tmp_path))):
        assert found["device"] == f"sim:{rank}"
        assert found["results"] == [[3, 3], [6, 6], [0, 1], [3, 3, 3]]
        assert found["streams"] == [True, False, False, True, False]
        assert found["side"]
        for (kind, said), where in zip(found["elsewhere"], ("cpu", f"sim:{1 - rank}"), strict=True):
            assert kind == "AssertionError"
            assert said == f"PyNCCL works on sim:{rank} here, and a tensor is on {where}"


# Without ranks.


@pytest.fixture
def at() -> Iterator[Callable[[str], Any]]:
    """The modules of a release, also of one whose table is not here: the last one's serves."""

    def installed(release: str) -> Any:
        known = tables.releases()
        sglang_reference.uninstall()
        table = tables.load(release if release in known else known[-1]).to_json()
        sglang_reference.install({**table, "release": release})
        return SimpleNamespace(pynccl=importlib.import_module(NCCL), wrapper=importlib.import_module(WRAPPER))

    yield installed
    sglang_reference.uninstall()


def alone(pynccl: Any, device: Any = "cpu") -> Any:
    """A communicator of a group of one rank."""
    group = importlib.import_module("sglang.srt.distributed.utils").StatelessProcessGroup(0, 1, None)
    return pynccl.PyNcclCommunicator(group, device)


@pytest.mark.parametrize(
    ("release", "more"),
    [
        ("0.5.11", []),
        ("0.5.16", []),
        ("0.5.17", ["is_symmetric_memory_enabled"]),
        ("0.5.22", ["is_symmetric_memory_enabled"]),
        ("0.5.23", ["is_symmetric_memory_enabled", "cta_policy"]),
    ],
)
def test_constructor_takes_what_it_takes_in_each_release(at: Callable[[str], Any], release: str, more: Any) -> None:
    parameters = inspect.signature(at(release).pynccl.PyNcclCommunicator).parameters
    assert list(parameters) == ["group", "device", "library_path", *more]
    defaults = {"library_path": None, "is_symmetric_memory_enabled": False, "cta_policy": None}
    for name in ["library_path", *more]:
        assert parameters[name].default is defaults[name]


@pytest.mark.parametrize(
    ("name", "first", "gone"),
    [
        ("pynccl.PyNcclCommunicator.all_to_all_single", "0.5.17", ""),
        ("pynccl.PyNcclCommunicator.cp_all_gather_into_tensor", "", "0.5.16"),
        ("wrapper.ncclConfig_t", "0.5.17", ""),
        ("wrapper.NCCL_API_MAGIC", "0.5.17", ""),
        ("wrapper.NCCLLibrary.ncclCommInitRankConfig", "0.5.17", ""),
        ("wrapper.NCCLLibrary.ncclMemAlloc", "0.5.23", ""),
        ("wrapper.NCCLLibrary.ncclMemFree", "0.5.23", ""),
        ("wrapper.NCCL_CTA_POLICY_ZERO", "0.5.23", ""),
    ],
)
def test_names_come_and_go_with_their_releases(at: Callable[[str], Any], name: str, first: str, gone: str) -> None:
    before = {"0.5.17": "0.5.16", "0.5.16": "0.5.15", "0.5.23": "0.5.22"}
    for release, there in [
        ("0.5.11", not first),
        *(((before[first], False), (first, True)) if first else ()),
        *(((before[gone], True), (gone, False)) if gone else ()),
        ("0.5.23", not gone),
    ]:
        owner: Any = at(release)
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        assert hasattr(owner, last) == there, release


def test_signatures_of_the_methods(at: Callable[[str], Any]) -> None:
    communicator = at("0.5.23").pynccl.PyNcclCommunicator
    for name, expected in {
        "all_reduce": ["tensor", "op"],
        "outplace_all_reduce": ["in_tensor", "out_tensor", "op"],
        "all_gather": ["output_tensor", "input_tensor", "sizes"],
        "reduce_scatter": ["output_tensor", "input_tensor", "op", "sizes"],
        "send": ["tensor", "dst"],
        "recv": ["tensor", "src"],
        "all_to_all_single": ["output_tensor", "input_tensor"],
        "broadcast": ["tensor", "src"],
        "register_comm_window_raw": ["ptr", "size"],
        "deregister_comm_window": ["window"],
        "group_start": [],
        "group_end": [],
        "change_state": ["enable"],
    }.items():
        assert list(inspect.signature(getattr(communicator, name)).parameters)[1:] == expected, name


def test_one_rank_has_no_use_for_it(at: Callable[[str], Any]) -> None:
    for release in ("0.5.11", "0.5.23"):
        comm, given = alone(at(release).pynccl), torch.ones(2)
        assert (comm.rank, comm.world_size, comm.available, comm.disabled) == (0, 1, False, True)
        assert comm.all_reduce(given) is None
        with comm.change_state(enable=True), pytest.raises(RuntimeError, match="the group has one rank"):
            comm.all_reduce(given)
        comm.destroy()
        assert given.tolist() == [1, 1]


@pytest.mark.parametrize("call", ["group_start", "group_end"])
def test_group_calls_of_one_that_is_not_available_tell_why(at: Callable[[str], Any], call: str) -> None:
    comm = alone(at("0.5.23").pynccl)
    with comm.change_state(enable=True), pytest.raises(RuntimeError, match="the group has one rank"):
        getattr(comm, call)()


class Switching(RuleBasedStateMachine):
    """Scopes that enable and disable, entered and left in any way, with whatever is set meanwhile."""

    make: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.comm = self.make()
        self.comm.available = True
        self.calls = 0
        self.comm.nccl, self.comm.comm = SimpleNamespace(ncclAllReduce=self._note), None
        self.available, self.disabled = True, True
        self.scopes: list[tuple[Any, bool]] = []

    def _note(self, *arguments: Any) -> None:
        self.calls += 1

    @rule(enable=st.sampled_from([None, True, False]))
    def enter(self, enable: bool | None) -> None:
        scope = self.comm.change_state() if enable is None else self.comm.change_state(enable=enable)
        self.scopes.append((scope, self.disabled))
        scope.__enter__()
        self.disabled = not (self.available if enable is None else enable)

    @precondition(lambda self: self.scopes)
    @rule(error=st.sampled_from([None, ValueError("within"), KeyboardInterrupt()]))
    def leave(self, error: BaseException | None) -> None:
        scope, self.disabled = self.scopes.pop()
        with contextlib.suppress(ValueError, KeyboardInterrupt):
            assert not scope.__exit__(error and type(error), error, None), "the error went no further"

    @rule(available=st.booleans())
    def become(self, available: bool) -> None:
        self.comm.available = self.available = available

    @rule(disabled=st.booleans())
    def switch(self, disabled: bool) -> None:
        self.comm.disabled = self.disabled = disabled

    @rule()
    def use(self) -> None:
        before, given = self.calls, torch.ones(1)
        if self.available or self.disabled:
            assert self.comm.all_reduce(given) is None
        else:
            with pytest.raises(RuntimeError):
                self.comm.all_reduce(given)
        assert self.calls - before == (not self.disabled and self.available)

    @invariant()
    def as_expected(self) -> None:
        assert (self.comm.available, self.comm.disabled) == (self.available, self.disabled)


def test_scopes_restore_what_was_there(at: Callable[[str], Any]) -> None:
    pynccl = at("0.5.23").pynccl
    Switching.make = staticmethod(lambda: alone(pynccl))
    run_state_machine_as_test(Switching, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


def test_every_method_asks_for_the_stream_of_its_device_when_it_is_called(
    at: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    comm, seen = alone(at("0.5.23").pynccl, "meta"), []
    comm.available, comm.comm = True, 5
    asked: list[Any] = []
    numbers = iter(range(1000, 2000))

    def current_stream(device: Any) -> Any:
        asked.append(device)
        return SimpleNamespace(meta_stream=next(numbers))

    def called(name: str) -> Callable[..., None]:
        return lambda *arguments: seen.append((name, arguments[-1].value if arguments else None))

    names = ("AllReduce", "AllGather", "ReduceScatter", "Broadcast", "Reduce", "Send", "Recv", "GroupStart", "GroupEnd")
    comm.nccl = SimpleNamespace(**{f"nccl{name}": called(name) for name in names})
    monkeypatch.setattr(torch, "get_device_module", lambda device: SimpleNamespace(current_stream=current_stream))
    given = torch.ones(2, device="meta")
    with comm.change_state(enable=True):
        comm.all_reduce(given)
        comm.outplace_all_reduce(given)
        comm.all_gather(given, given)
        comm.reduce_scatter(given, given)
        comm.send(given, dst=0)
        comm.recv(given, src=0)
        comm.broadcast(given, src=0)
        comm.all_gather(given, given, sizes=[2])
        comm.reduce_scatter(given, given, sizes=[2])
        comm.all_to_all_single(given, given)
    assert set(asked) == {torch.device("meta")}
    ones = ["AllReduce", "AllReduce", "AllGather", "ReduceScatter", "Send", "Recv", "Broadcast"]
    assert seen[:7] == [(name, 1000 + number) for number, name in enumerate(ones)]
    parts = [[name for name, _ in seen[first : first + 3]] for first in (7, 10)]
    assert parts == [["GroupStart", "Broadcast", "GroupEnd"], ["GroupStart", "Reduce", "GroupEnd"]]
    assert [handle for name, handle in seen[7:] if "Group" not in name] == [1007, 1008, 1009, 1009]


@pytest.mark.parametrize(
    ("attributes", "kind", "handle"),
    [
        ({"cuda_stream": 7}, "cuda", 7),
        ({"cuda_stream": 0}, "cuda", 0),
        ({"sim_stream": 8}, "sim", 8),
        ({"native_handle": 9}, "sim", 9),
        ({"cuda_stream": 1, "native_handle": 2}, "mlu", 1),
        ({}, "cpu", None),
    ],
)
def test_streams_tell_their_handles(
    at: Callable[[str], Any], attributes: dict[str, int], kind: str, handle: int | None
) -> None:
    assert at("0.5.23").pynccl._handle(SimpleNamespace(**attributes), kind) == handle


def test_stream_that_tells_no_handle_is_an_error(at: Callable[[str], Any]) -> None:
    with pytest.raises(TypeError, match="cuda_stream nor sim_stream nor native_handle"):
        at("0.5.23").pynccl._handle(SimpleNamespace(), "sim")
