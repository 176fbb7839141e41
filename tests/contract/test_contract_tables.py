from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.contract.errors import ContractError
from sglang_conformance.contract.model import BackendSwitch, Contract, Default


def called(contract: Contract) -> set[str]:
    return {member.name for member in contract.called()}


def default_of(contract: Contract, name: str) -> Default:
    member = contract.member(name)
    assert member is not None
    return member.default


def test_the_releases_are_sorted_as_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(tables.releases()) >= {"0.5.11", "0.5.23"}
    for release in ("0.5.9", "0.5.10", "0.6.0rc1", "0.6.0"):
        (tmp_path / f"{release}.json").write_text("{}")
    monkeypatch.setattr(tables, "_folder", lambda: tmp_path)
    assert tables.releases() == ("0.5.9", "0.5.10", "0.6.0rc1", "0.6.0")
    assert tables.newest() == "0.6.0"


@pytest.mark.parametrize("release", tables.releases())
def test_a_table_says_its_own_release_and_reads_back_as_written(release: str) -> None:
    contract = tables.load(release)
    assert contract.release == release
    assert tables.dump(contract) == tables.path(release).read_text(encoding="utf-8")
    assert Contract.from_json(json.loads(tables.dump(contract))) == contract


@pytest.mark.parametrize("release", ["0.5.1", "", "../tables/0.5.23", "0.5.23.json"])
def test_an_unknown_release_is_refused_with_those_that_there_are(release: str) -> None:
    with pytest.raises(ContractError, match=r"there are: 0\.5\.11, .*0\.5\.23"):
        tables.load(release)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"release": "1.0"}', "\x00"])
def test_a_damaged_table_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    (tmp_path / "1.0.json").write_text(text)
    monkeypatch.setattr(tables, "_folder", lambda: tmp_path)
    with pytest.raises(ContractError, match=r"1\.0\.json is damaged"):
        tables.load("1.0")


def test_the_digest_is_equal_for_equal_contracts_and_changes_with_any_fact() -> None:
    contract = tables.load("0.5.23")
    reordered = dataclasses.replace(contract, capabilities=dict(reversed(list(contract.capabilities.items()))))
    assert tables.digest(reordered) == tables.digest(tables.load("0.5.23"))
    assert tables.dump(reordered) == tables.dump(contract)
    assert tables.digest(dataclasses.replace(contract, release="0.5.24")) != tables.digest(contract)
    assert tables.digest(dataclasses.replace(contract, detection=contract.detection[::-1])) != tables.digest(contract)
    assert len(tables.digest(contract)) == 64


def test_reading_a_table_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sglang_conformance.contract import tables, extract; tables.load('0.5.23');"
        "print([m for m in ('torch', 'numpy', 'hypothesis', 'pytest', 'sglang') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_first_contract_is_as_sglang_0_5_11_has_it() -> None:
    contract = tables.load("0.5.11")
    assert len(contract.members) == 45
    assert len(contract.platform_enum) == 10
    assert contract.detection == ()
    assert contract.capabilities == {}
    assert not contract.backends.asks_platform
    assert contract.backends.switches == ()
    assert [e.name for e in contract.environment] == ["SGLANG_PLATFORM", "SGLANG_PLUGINS"]
    assert default_of(contract, "is_pin_memory_available") == Default("returns", True)
    assert default_of(contract, "get_graph_runner_cls") == Default("raises", "NotImplementedError")
    assert called(contract) >= {"get_mha_kv_pool_cls", "support_cuda_graph", "init_backend", "device_name"}
    assert called(contract).isdisjoint({"synchronize", "empty_cache", "get_device", "supports_fp8"})


def test_the_newest_contract_is_as_sglang_0_5_23_has_it() -> None:
    contract = tables.load("0.5.23")
    assert len(contract.members) == 57
    assert len(contract.platform_enum) == 11
    assert contract.detection == ("cpu", "sail", "cuda", "npu", "rocm", "xpu", "musa", "mps")
    assert set(contract.capabilities) >= {"graph_capture", "supports_pynccl"}
    assert not any(contract.capabilities.values())
    assert contract.backends.asks_platform
    assert contract.backends.switches == (BackendSwitch("npu", "SGLANG_ZBAL_LOCAL_MEM_SIZE", 0, "zbal"),)
    assert [(e.name, e.default) for e in contract.environment] == [
        ("SGLANG_PLATFORM", ""),
        ("SGLANG_PLUGINS", ""),
        ("SGLANG_USE_CPU_ENGINE", False),
        ("SGLANG_ZBAL_LOCAL_MEM_SIZE", 0),
    ]
    assert contract.kv_pool_kinds == ("mha", "mla", "dsa")
    assert default_of(contract, "is_pin_memory_available") == Default("returns", False)
    assert default_of(contract, "get_graph_runner_cls") == Default("returns", None)
    # Core calls these although their docstrings say that it is only planned.
    assert called(contract) >= {"synchronize", "empty_cache", "get_device_uuid", "get_device"}
    assert called(contract).isdisjoint({"get_communicator_class", "seed_everything", "get_cpu_architecture"})
