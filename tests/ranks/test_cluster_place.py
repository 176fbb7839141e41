"""Which rank of how many one is; how a group spreads over hosts; what is a secret, and what is allowed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranks.agents import somewhere
from sglang_conformance.ranks.address import AddressError, joined, parsed
from sglang_conformance.ranks.allowed import Allowed
from sglang_conformance.ranks.place import Place, PlaceError, forget_launcher, numbers, place, spread
from sglang_conformance.ranks.secret import VARIABLE, SecretError, take_secret

TORCHRUN = {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "3"}


def where(environment: dict[str, str], **given: int) -> tuple[int, int, int]:
    found = place(environment, rank=given.get("rank"), size=given.get("size"), local=given.get("local"), host="h")
    return found.rank, found.size, found.local


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        (TORCHRUN, {}, (9, 16, 1)),
        (SRUN, {}, (3, 4, 3)),
        ({**SRUN, **TORCHRUN}, {}, (9, 16, 1)),
        (TORCHRUN, {"local": 0}, (9, 16, 0)),
        (TORCHRUN, {"rank": 0, "size": 2}, (0, 2, 1)),
        ({"JOB_COMPLETION_INDEX": "2"}, {"size": 4}, (2, 4, 0)),
        ({}, {"rank": 1, "size": 2}, (1, 2, 0)),
    ],
)
def test_a_rank_knows_its_place(
    environment: dict[str, str], given: dict[str, int], expected: tuple[int, int, int]
) -> None:
    assert where(environment, **given) == expected


@pytest.mark.parametrize(
    ("environment", "given", "said"),
    [
        ({}, {}, "this rank does not know its number"),
        ({"RANK": "1"}, {}, "this rank does not know how many there are"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, {}, "RANK='one' is not a number"),
        (TORCHRUN, {"rank": 16}, "rank 16 of 16"),
        (TORCHRUN, {"rank": -1}, "rank -1 of 16"),
        (TORCHRUN, {"local": -1}, "the one numbered -1"),
    ],
)
def test_a_place_that_makes_no_sense_is_an_error(environment: dict[str, str], given: dict[str, int], said: str) -> None:
    with pytest.raises(PlaceError, match=said):
        where(environment, **given)


def test_ranks_inherit_nothing_of_the_launcher() -> None:
    environment = {
        **TORCHRUN,
        "GROUP_RANK": "1",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_PORT": "1",
        "HOME": "/",
    }
    forget_launcher(environment)
    assert environment == {"HOME": "/"}


def places(*hosts: int) -> list[Place]:
    """Hosts of so many ranks each."""
    names = [f"h{number}" for number, count in enumerate(hosts) for _ in range(count)]
    return [somewhere(rank, len(names), host=name) for rank, name in enumerate(names)]


@pytest.mark.parametrize(
    ("hosts", "size", "ranks"),
    [
        ((8,), 3, [0, 1, 2]),
        ((8, 8), 1, [0]),
        ((8, 8), 2, [0, 8]),
        ((8, 8), 4, [0, 1, 8, 9]),
        ((8, 8), 3, [0, 1, 8]),
        ((1, 4), 4, [0, 1, 2, 3]),
        ((2, 2, 2), 3, [0, 2, 4]),
        ((8, 8), 16, list(range(16))),
    ],
)
def test_a_group_spreads_over_the_hosts(hosts: tuple[int, ...], size: int, ranks: list[int]) -> None:
    assert [one.rank for one in spread(places(*hosts), size)] == ranks


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.data())
def test_no_host_has_fewer_than_another_while_it_has_more(hosts: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, sum(hosts)))
    chosen = spread(places(*hosts), size)
    assert len(chosen) == size
    counts = Counter(one.host for one in chosen)
    for number, count in enumerate(hosts):
        if counts[f"h{number}"] < count:
            assert counts[f"h{number}"] + 1 >= max(counts.values())


def test_more_places_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 of 2 places are wanted"):
        spread(places(2), 3)


@pytest.mark.parametrize(
    ("ranks", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 5], "0-2, 5"), ([7, 5, 6, 1], "1, 5-7"), ([1, 2], "1-2")]
)
def test_ranks_in_words(ranks: list[int], text: str) -> None:
    assert numbers(ranks) == text


@pytest.mark.parametrize("text", ["node0:29600", "127.0.0.1:0", "[::1]:29600"])
def test_addresses_are_read_back(text: str) -> None:
    assert joined(*parsed(text)) == text


@pytest.mark.parametrize("text", ["", "node0", "node0:", ":1", "node0:x", "::1:5", "node0:-1", "node0:65536", "[]:1"])
def test_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(AddressError, match=r"is not HOST:PORT, as in node0:29600"):
        parsed(text)


def written(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_secret_is_taken_from_its_file_and_out_of_the_environment(tmp_path: Path) -> None:
    environment = {VARIABLE: "y" * 16}
    assert take_secret(written(tmp_path, b"x" * 16 + b"\n"), environment) == b"x" * 16
    assert environment == {}


def test_the_secret_may_come_from_the_environment() -> None:
    environment = {VARIABLE: " " + "y" * 16 + "\n", "HOME": "/"}
    assert take_secret(None, environment) == b"y" * 16
    assert environment == {"HOME": "/"}


def test_a_missing_secret_is_told_with_how_to_make_one() -> None:
    with pytest.raises(SecretError, match=r"need a secret that they share: make one with 'umask 077; openssl rand"):
        take_secret(None, {})


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644])
def test_a_secret_that_anybody_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, b"x" * 32, mode)
    with pytest.raises(SecretError, match=f"'chmod 600 {path}' mends it"):
        take_secret(path, {})


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"x" * 15 + b"\n\n", "has 15 bytes, and 16 are the least"), (b"x" * 5000, "is longer than 4096 bytes")],
)
def test_a_secret_of_a_wrong_length_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(SecretError, match=said):
        take_secret(written(tmp_path, content), {})


def test_a_short_secret_in_the_environment_is_refused() -> None:
    with pytest.raises(SecretError, match=f"the secret in {VARIABLE} has 5 bytes"):
        take_secret(None, {VARIABLE: "short"})


@pytest.mark.parametrize("name", ["sglang_conformance.suite.execute:enter_host", "own:job", "own.part:job"])
def test_jobs_of_the_kit_and_of_what_was_named_are_allowed(name: str) -> None:
    assert Allowed(["own"]).job(name) == name


@pytest.mark.parametrize(
    "name", ["os:system", "sglang_conformancex.a:b", "owner:x", "own", "own:", ":own", "own:a.b", "own..x:a", "own:x\n"]
)
def test_other_jobs_are_not_allowed(name: str) -> None:
    with pytest.raises(PermissionError, match="this agent runs what is in sglang_conformance, own, and not"):
        Allowed(["own"]).job(name)


@pytest.mark.parametrize(
    ("name", "allowed"), [("torch.distributed", True), ("numpy", True), ("os", False), ("", False)]
)
def test_modules_that_may_be_imported(name: str, allowed: bool) -> None:
    if allowed:
        assert Allowed().module(name) == name
    else:
        with pytest.raises(PermissionError, match="this agent imports"):
            Allowed().module(name)
