from __future__ import annotations

import lzma
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_conformance.contract import extract_index, tables
from sglang_conformance.contract.errors import ContractError
from sglang_conformance.contract.index import Index, Resolved, Symbol, Unknown
from sglang_conformance.contract.index_file import dumps, loads

RELEASES = ("0.5.9", "0.5.10", "0.5.10.post1", "0.6.0rc1", "0.6.0")
FORMS = (
    Symbol("module"),
    Symbol("module", open=True),
    Symbol("module", origin="sglang.a.b.c"),
    Symbol("class"),
    Symbol("class", "(self, x='\\t')", ("sglang.a.A", "torch.nn.Module")),
    Symbol("class", bases=("sglang.a.A",), open=True),
    Symbol("function", "(x)"),
    Symbol("method", "(self)"),
    Symbol("classmethod"),
    Symbol("staticmethod"),
    Symbol("property", "(self) -> int"),
    Symbol("attribute"),
    Symbol("name"),
    Symbol("name", origin="torch"),
)
PATHS = ("sglang.a", "sglang.a.b", "sglang.a.b.c", "sglang.a.B.c", "sglang.d", "sglang.d.e.f")

releases = st.dictionaries(
    st.sampled_from(RELEASES), st.dictionaries(st.sampled_from(PATHS), st.sampled_from(FORMS)), min_size=1
)


def whole(symbols: dict[str, Symbol]) -> dict[str, Symbol]:
    """The same with what each path is in: in an index there is no path without that."""
    parents = {path.rsplit(".", up)[0] for path in symbols for up in range(1, path.count(".") + 1)}
    return {**dict.fromkeys(("sglang", *sorted(parents)), Symbol("module")), **symbols}


@settings(max_examples=20, deadline=None)
@given(releases)
def test_each_release_comes_out_as_it_went_in(made: dict[str, dict[str, Symbol]]) -> None:
    indexes = [Index(release, whole(symbols)) for release, symbols in made.items()]
    data = dumps(indexes)
    random.Random(1).shuffle(indexes)
    assert dumps(indexes) == data
    file = loads(data)
    assert file.releases == tuple(release for release in RELEASES if release in made)
    for index in indexes:
        found = file.index(index.release)
        assert dict(found.symbols) == index.symbols
        assert len(found.symbols) == len(index.symbols)
        assert all((path in found.symbols) == (path in index.symbols) for path in PATHS)
    assert dumps(map(file.index, file.releases)) == data


def test_a_path_of_another_release_is_absent() -> None:
    file = loads(
        dumps([Index("1.0", {"sglang": Symbol("module"), "sglang.a": FORMS[0]}), Index("2.0", {"sglang": FORMS[0]})])
    )
    assert "sglang.a" in file.index("1.0").symbols
    with pytest.raises(KeyError):
        file.index("2.0").symbols["sglang.a"]
    with pytest.raises(KeyError):
        file.index("2.0").symbols["elsewhere"]
    assert "elsewhere" not in file.index("2.0").symbols


@pytest.mark.parametrize(
    "data", [b"", b"\x00", lzma.compress(b""), lzma.compress(b"other/1 1.0\n"), lzma.compress(b"\xff")]
)
def test_what_is_no_index_is_one_clear_line(data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"the index .*install the kit again"):
        loads(data)
    monkeypatch.setattr(tables, "_folder", lambda: tmp_path)
    with pytest.raises(ContractError, match=r"cannot read .*index\.xz \(No such file"):
        tables.load_index("0.5.23")


def test_a_truncated_file_is_refused() -> None:
    data = tables.index_path().read_bytes()
    with pytest.raises(ContractError, match="is damaged"):
        loads(data[: len(data) // 2])


def test_an_unknown_release_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ContractError, match=r"no index for SGLang 9\.9; there are: 0\.5\.11, .*0\.5\.23"):
        tables.load_index("9.9")


def test_every_release_with_a_contract_has_an_index_and_all_together_are_small() -> None:
    file = loads(tables.index_path().read_bytes())
    assert file.releases == tables.releases()
    files = [path for path in tables.index_path().parent.rglob("*") if path.suffix in (".json", ".xz")]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 3_000_000  # as they lie in the kit's wheel


def test_the_members_of_a_contract_are_in_the_index_with_the_same_signature() -> None:
    for index in tables.load_indexes(*tables.releases()):
        for member in tables.load(index.release).members:
            module = {"DeviceMixin": "device_mixin", "SRTPlatform": "interface"}[member.owner]
            path = f"sglang.srt.platforms.{module}.{member.owner}.{member.name}"
            assert index.symbols[path].signature == member.signature, (index.release, path)
            through = index.resolve(f"sglang.srt.platforms.interface.SRTPlatform.{member.name}")
            assert through == Resolved(path, index.symbols[path])


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("sglang.srt.managers.scheduler.Scheduler.run_batch", {"0.5.11": "=", "0.5.23": "="}),
        ("sglang.srt.mem_cache.memory_pool.NSATokenToKVPool", {"0.5.12": "=", "0.5.13": "absent"}),
        # Withheld from star imports since 0.5.21; another module's star import brings the second all the same.
        (
            "sglang.srt.distributed.get_pp_group",
            {"0.5.20": "sglang.srt.distributed.parallel_state.get_pp_group", "0.5.21": "absent"},
        ),
        (
            "sglang.srt.distributed.get_tp_group",
            {"0.5.21": "sglang.srt.distributed.parallel_state.get_tp_group"},
        ),
        ("sglang.srt.platforms.current_platform", {"0.5.11": "unknown", "0.5.23": "unknown"}),
        ("sglang.srt.no.such.module", {"0.5.11": "absent", "0.5.23": "absent"}),
        ("sglang.srt.utils.is_cuda", {"0.5.11": "sglang.srt.utils.common.is_cuda"}),
    ],
)
def test_known_paths_lead_where_the_releases_have_them(path: str, found: dict[str, str]) -> None:
    for release, wanted in found.items():
        led = tables.load_index(release).resolve(path)
        seen = led.path if isinstance(led, Resolved) else "unknown" if isinstance(led, Unknown) else "absent"
        assert seen == (path if wanted == "=" else wanted), release


@pytest.mark.parametrize("release", ["0.5.11", "0.5.16", "0.5.23"])
def test_the_bundled_index_is_what_the_released_wheel_says(release: str, wheel: Callable[[str], Path]) -> None:
    fresh, bundled = extract_index.extract(wheel(release)), tables.load_index(release)
    assert fresh.release == release
    different = {p for p in {*fresh.symbols, *bundled.symbols} if fresh.symbols.get(p) != bundled.symbols.get(p)}
    assert sorted(different)[:10] == []
