"""The file of tested peer access, and the facts of NVIDIA devices."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_reference._custom_all_reduce import nvml, providers, settings
from sglang_reference._custom_all_reduce.peer_access import Access, Machine, access, file_of, load, save
from sglang_reference._custom_all_reduce.topology import Device, Settings

TWO = Machine(("GPU-a", "GPU-b"), "570.1")
BOTH = frozenset({("GPU-a", "GPU-b"), ("GPU-b", "GPU-a")})


class Counted:
    """A test that counts how often it is asked."""

    def __init__(self, pairs: frozenset[tuple[str, str]] = BOTH, seconds: float = 0.0) -> None:
        self.asked = 0
        self.pairs = pairs
        self.seconds = seconds

    def __call__(self, devices: Sequence[str]) -> frozenset[tuple[str, str]]:
        self.asked += 1
        time.sleep(self.seconds)
        return self.pairs


def test_what_was_tested_is_kept_and_read_again(tmp_path: Path) -> None:
    tester = Counted()
    assert access(tmp_path / "new" / "folder", TWO, tester).between("GPU-a", "GPU-b")
    assert access(tmp_path / "new" / "folder", TWO, tester).between("GPU-b", "GPU-a")
    assert tester.asked == 1


def test_access_in_one_direction_is_none(tmp_path: Path) -> None:
    found = access(tmp_path, TWO, Counted(frozenset({("GPU-a", "GPU-b")})))
    assert not found.between("GPU-a", "GPU-b")
    assert found.between("GPU-a", "GPU-a")
    assert not found.between("GPU-a", "GPU-c")


def whole() -> bytes:
    return json.dumps({"format": 1, "devices": TWO.devices, "driver": TWO.driver, "pairs": sorted(BOTH)}).encode()


GARBAGE = {
    "empty": b"",
    "truncated": whole()[:-7],
    "not text": b"\xff\xfe\x00",
    "another type": b"[]",
    "no pairs": json.dumps({"format": 1, "devices": TWO.devices, "driver": TWO.driver}).encode(),
    "pairs of something else": whole().replace(b'"GPU-a"]]', b"7]]"),
    "pairs of three": whole().replace(b'"GPU-b"]', b'"GPU-b", "GPU-a"]', 1),
    "pairs of strangers": whole().replace(b'[["GPU-a"', b'[["GPU-c"'),
    "SGLang's own": b'{"0->1": true, "1->0": true}',
    "a later format": whole().replace(b'"format": 1', b'"format": 2'),
    "deeply nested": b"[" * 100_000,
    "other devices": whole().replace(b'"devices": ["GPU-a"', b'"devices": ["GPU-z"'),
    "another driver": whole().replace(b"570.1", b"575.2"),
}


def test_whole_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(whole())
    assert load(path, TWO) == Access(TWO, BOTH)


@pytest.mark.parametrize("kind", GARBAGE)
def test_file_that_is_not_whole_counts_as_none_and_is_replaced(tmp_path: Path, kind: str) -> None:
    path = file_of(tmp_path, TWO)
    path.write_bytes(GARBAGE[kind])
    assert GARBAGE[kind] != whole()
    assert load(path, TWO) is None
    tester = Counted()
    assert access(tmp_path, TWO, tester).between("GPU-a", "GPU-b")
    assert tester.asked == 1
    assert load(path, TWO) == Access(TWO, BOTH)


@given(cut=st.integers(0, 200), garbage=st.binary(max_size=60))
def test_no_bytes_raise_or_give_access(tmp_path_factory: pytest.TempPathFactory, cut: int, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("kept") / "file"
    path.write_bytes(whole()[:cut] + garbage)
    found = load(path, TWO)
    assert found is None or found == Access(TWO, BOTH)


def test_folder_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tester = Counted()
    assert access(tmp_path / "file" / "folder", TWO, tester).between("GPU-a", "GPU-b")
    assert not save(tmp_path / "file" / "folder" / "x", Access(TWO, BOTH))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_folder_that_is_read_only_is_done_without(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert access(tmp_path, TWO, Counted()).between("GPU-a", "GPU-b")


def test_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    assert access(tmp_path, TWO, Counted()).between("GPU-a", "GPU-b")
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_directory_in_the_place_of_the_file_is_done_without(tmp_path: Path) -> None:
    file_of(tmp_path, TWO).mkdir()
    assert access(tmp_path, TWO, Counted()).between("GPU-a", "GPU-b")


def test_sets_of_devices_are_kept_apart_and_sixteen_uuids_are_no_trouble(tmp_path: Path) -> None:
    many = Machine(tuple(f"GPU-{n:08x}-1111-2222-3333-444444444444" for n in range(16)))
    machines = [TWO, Machine(TWO.devices[::-1], TWO.driver), Machine(TWO.devices), Machine(("GPU-a",)), many]
    for machine in machines:
        access(tmp_path, machine, Counted(frozenset()))
    assert len({file_of(tmp_path, machine) for machine in machines}) == len(machines)
    assert all(load(file_of(tmp_path, machine), machine) for machine in machines)
    assert not access(tmp_path, TWO, Counted()).between("GPU-a", "GPU-b")  # of its own file


def test_test_that_raises_is_told_and_leaves_no_lock(tmp_path: Path) -> None:
    def broken(devices: Sequence[str]) -> frozenset[tuple[str, str]]:
        raise RuntimeError("no driver")

    with pytest.raises(RuntimeError, match="no driver"):
        access(tmp_path, TWO, broken)
    assert access(tmp_path, TWO, Counted(), deadline=5.0).between("GPU-a", "GPU-b")


def test_one_of_several_tests_and_the_others_read(tmp_path: Path) -> None:
    tester = Counted(seconds=0.2)
    threads = [threading.Thread(target=access, args=(tmp_path, TWO, tester)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert tester.asked == 1


def hold(folder: Path, ready: Any) -> None:
    def forever(devices: Sequence[str]) -> frozenset[tuple[str, str]]:
        ready.set()
        time.sleep(600)
        return frozenset()

    access(folder, TWO, forever)


def test_process_that_hangs_or_dies_with_the_lock_keeps_nobody_waiting(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready), daemon=True)
    process.start()
    try:
        assert ready.wait(30)
        assert access(tmp_path / ".", TWO, Counted(), deadline=0.2).between("GPU-a", "GPU-b")  # it hangs
        file_of(tmp_path, TWO).unlink()
    finally:
        process.kill()
        process.join()
    assert access(tmp_path, TWO, Counted(), deadline=30.0).between("GPU-a", "GPU-b")  # it has died


def write(folder: Path, number: int) -> None:
    for _ in range(60):
        save(file_of(folder, TWO), Access(TWO, BOTH if number % 2 else frozenset()))


def test_concurrent_writers_never_leave_a_part(tmp_path: Path) -> None:
    save(file_of(tmp_path, TWO), Access(TWO, BOTH))
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write, args=(tmp_path, number)) for number in range(3)]
    for process in processes:
        process.start()
    seen = set()
    while any(process.is_alive() for process in processes):
        found = load(file_of(tmp_path, TWO), TWO)
        assert found is not None
        seen.add(found.pairs)
    for process in processes:
        process.join(30)
    assert seen <= {BOTH, frozenset()}
    assert list(tmp_path.glob("*.json.*")) == []


# NVIDIA's management library, imagined.


class NVMLError(Exception):
    pass


class Nvml(SimpleNamespace):
    """Two peers A and B and a stranger C, whose lanes end where ``ends`` says; ``joined`` is what NVML says of A, B."""

    NVML_P2P_CAPS_INDEX_NVLINK = 2
    NVML_P2P_STATUS_OK = 0
    NVML_NVLINK_MAX_LINKS = 4
    NVML_NVLINK_DEVICE_TYPE_SWITCH = 2
    NVMLError = NVMLError

    def __init__(self, ends: Sequence[str], joined: bool) -> None:
        super().__init__(ends=ends, joined=joined, opened=0)

    def nvmlInit(self) -> None:  # noqa: N802
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        assert self.opened == 1
        if uuid not in ("GPU-a", "GPU-b", "GPU-c"):
            raise NVMLError("not found")
        return uuid

    def nvmlDeviceGetP2PStatus(self, one: str, other: str, index: int) -> int:  # noqa: N802
        return 0 if self.joined and {one, other} == {"GPU-a", "GPU-b"} else 5

    def nvmlDeviceGetPciInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(busId=f"0000:{handle}".encode())

    def nvmlDeviceGetNvLinkState(self, handle: str, lane: int) -> int:  # noqa: N802
        if lane >= len(self.ends):
            raise NVMLError("not supported")
        return int(self.ends[lane] != "down")

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: str, lane: int) -> int:  # noqa: N802
        return 2 if self.ends[lane] == "switch" else 0

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: str, lane: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(busId=f"0000:{self.ends[lane]}")


@pytest.mark.parametrize(
    ("ends", "joined", "lanes"),
    [
        (["GPU-b", "GPU-b", "GPU-c"], True, 2),
        (["GPU-b", "down", "GPU-c"], True, 1),
        (["GPU-c", "GPU-c", "GPU-c"], False, 0),  # all lanes are up, and none of them ends at the peer
        (["switch"] * 4, True, 4),
        (["switch"] * 4, False, 0),
        ([], True, 1),
        (["down"] * 4, False, 0),
    ],
)
def test_lanes_are_those_that_end_at_the_peer(ends: list[str], joined: bool, lanes: int) -> None:
    library = Nvml(ends, joined)
    provider = nvml.NvmlProvider(library, "a", (9, 0), lambda one, other: (one, other) == ("GPU-a", "GPU-b"))
    peer = Device("node", "GPU-b")
    assert provider.lanes(peer) == lanes
    assert provider.access(peer)
    own = provider.device()
    assert (own.device, own.kind, own.clique, own.node) == ("GPU-a", "cuda", "", providers.this_node())
    with pytest.raises(NVMLError):
        provider.lanes(Device("node", "GPU-unknown"))
    assert library.opened == 0


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, ("GPU-a1", "GPU-a2", "GPU-b3")),
        ("2,0", ("GPU-b3", "GPU-a1")),
        ("GPU-b3, GPU-a1", ("GPU-b3", "GPU-a1")),
        ("GPU-b", ("GPU-b3",)),
        ("GPU-a", ()),  # two devices begin so
        ("0,7,1", ("GPU-a1",)),
        ("0,-1,1", ("GPU-a1",)),
        ("", ()),
    ],
)
def test_visible_devices_are_numbers_or_uuids(visible: str | None, seen: tuple[str, ...]) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert nvml.visible_devices(environ, ["GPU-a1", "GPU-a2", "GPU-b3"]) == seen


def test_allocator_says_whether_it_maps_segments() -> None:
    assert nvml.expandable({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64, expandable_segments: True"})
    assert not nvml.expandable({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"})
    assert not nvml.expandable({})


def test_library_that_is_not_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(providers.Unavailable, match="pynvml is not installed"):
        nvml.library()


# Tables and platforms.

TABLE = {
    "ranks": [{"node": "a", "device": f"GPU-{n}", "capability": [10, 0]} for n in range(3)],
    "lanes": [{"between": [0, 1], "up": 4}, {"between": [1, 2], "up": 0}],
    "no_access": [[0, 2]],
}


def test_table_tells_what_each_rank_sees(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(TABLE))
    table = providers.table_of({providers.TABLE_VARIABLE: str(path)})
    assert table is not None
    ranks = [providers.TableProvider(table, rank) for rank in range(3)]
    devices = [rank.device() for rank in ranks]
    assert devices[1] == Device("a", "GPU-1", capability=(10, 0))
    assert [[rank.lanes(peer) for peer in devices] for rank in ranks] == [[0, 4, 0], [4, 0, 0], [0, 0, 0]]
    assert [rank.access(devices[2]) for rank in ranks] == [False, True, True]


def test_table_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    assert providers.table_of({}) is None
    for text in ("", "[]", '{"ranks": 3}'):
        (tmp_path / "table").write_text(text)
        with pytest.raises(providers.Unavailable, match="SGLANG_REFERENCE_TOPOLOGY names"):
            providers.table_of({providers.TABLE_VARIABLE: str(tmp_path / "table")})
    with pytest.raises(ValueError, match="colour"):
        providers.device_of({"node": "a", "device": "b", "colour": "green"})


def test_platform_is_asked_only_where_it_offers_all_its_facts() -> None:
    class Partial:
        def get_all_reduce_device(self) -> dict[str, str]:
            return {"device": "SIM-0", "kind": "cuda"}

    class Whole(Partial):
        def get_all_reduce_lanes(self, uuid: str) -> int:
            return 3

        def get_all_reduce_access(self, uuid: str) -> bool:
            return uuid == "SIM-1"

    assert providers.of_platform(Partial()) is None
    offered = providers.of_platform(Whole())
    assert offered is not None
    peer = Device("x", "SIM-1")
    assert offered.device() == Device(providers.this_node(), "SIM-0", "cuda")
    assert (offered.lanes(peer), offered.access(peer)) == (3, True)


# Settings.


@pytest.mark.parametrize(
    ("release", "environ", "expected"),
    [
        ("0.5.11", {}, Settings(second=False)),
        ("0.5.11", {"SGLANG_USE_JIT_ALL_REDUCE": "1"}, Settings()),
        ("0.5.12", {"SGLANG_USE_JIT_ALL_REDUCE": "0"}, Settings()),
        ("0.5.12", {"SGLANG_OPT_USE_CUSTOM_ALL_REDUCE_V2": "false"}, Settings(second=False)),
        ("0.5.16", {"SGLANG_ENABLE_CUSTOM_ALL_REDUCE_V2_MULTINODE": "1"}, Settings()),
        ("0.5.18", {"SGLANG_ENABLE_CUSTOM_ALL_REDUCE_V2_MULTINODE": "1"}, Settings(unasked_across_nodes=True)),
        ("0.5.19", {"SGLANG_ENABLE_CUSTOM_ALL_REDUCE_V2_MULTINODE": "1"}, Settings()),
        ("0.5.15", {"SGLANG_CUSTOM_ALL_REDUCE_V2_MAX_SIZE_KB": "64"}, Settings()),
        ("0.5.16", {"SGLANG_CUSTOM_ALL_REDUCE_V2_MAX_SIZE_KB": "64"}, Settings(max_kib=64)),
        ("0.5.23", {"SGLANG_FORCE_CUSTOM_ALL_REDUCE_V2_PULL_SIZE_KB": "0"}, Settings(forced_pull_kib=0)),
        ("0.5.23", {"SGLANG_MEMORY_SAVER_CUDA_GRAPH": "1"}, Settings(graphs=False)),
        ("0.5.23", {"SGLANG_ENABLE_DETERMINISTIC_INFERENCE": "1"}, Settings(deterministic=True)),
        (
            "0.5.23",
            {"SGLANG_ENABLE_DETERMINISTIC_INFERENCE": "1", "SGLANG_USE_1STAGE_ALLREDUCE": "0"},
            Settings(deterministic=False),
        ),
    ],
)
def test_settings_are_read_by_release(release: str, environ: dict[str, str], expected: Settings) -> None:
    assert settings.read(environ, release) == expected
    assert settings.read(environ, release, enabled=False).enabled is False


def test_settings_that_cannot_be_parsed_warn_and_the_default_holds() -> None:
    with pytest.warns(UserWarning, match="neither true nor false"):
        assert settings.read({"SGLANG_OPT_USE_CUSTOM_ALL_REDUCE_V2": "perhaps"}, "0.5.23") == Settings()
    with pytest.warns(UserWarning, match="not a whole number"):
        assert settings.read({"SGLANG_CUSTOM_ALL_REDUCE_V2_MAX_SIZE_KB": "much"}, "0.5.23") == Settings()
