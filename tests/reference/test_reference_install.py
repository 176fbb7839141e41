from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

import sglang_reference
from sglang_conformance.contract import tables


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_modules_load_under_sglang_names(install: Any, module: Callable[[str], Any], release: str) -> None:
    install(release)
    interface = module("sglang.srt.platforms.interface")
    assert interface.__name__ == "sglang.srt.platforms.interface"
    assert interface.SRTPlatform.__module__ == "sglang.srt.platforms.interface"
    assert interface.SRTPlatform.get_default_attention_backend.__module__ == "sglang.srt.platforms.interface"
    assert module("sglang.srt.plugins").logger.name == "sglang.srt.plugins"
    assert module("sglang").__version__ == release


def test_uninstall_leaves_no_trace(install: Any, module: Callable[[str], Any]) -> None:
    finders = list(sys.meta_path)
    install()
    module("sglang.srt.distributed.parallel_state")
    sglang_reference.uninstall()
    assert sys.meta_path == finders
    assert not [name for name in sys.modules if name.partition(".")[0] == "sglang"]
    sglang_reference.uninstall()


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_version_is_that_of_the_table_wherever_it_is_asked(
    install: Any, module: Callable[[str], Any], release: str
) -> None:
    install(release)
    version = module("sglang.version")
    assert (version.__version__, version.__version_tuple__) == (release, tuple(map(int, release.split("."))))
    assert module("sglang").version is version
    assert importlib.metadata.version("sglang") == importlib.metadata.version("SGLang") == release
    assert importlib.metadata.distribution("sglang").files is None
    assert importlib.metadata.version("torch")
    assert next(d.version for d in importlib.metadata.distributions() if d.metadata["Name"] == "sglang") == release


def test_same_table_twice_changes_nothing_and_another_is_refused(install: Any) -> None:
    install("0.5.23")
    finders = list(sys.meta_path)
    install("0.5.23")
    assert sys.meta_path == finders
    with pytest.raises(RuntimeError, match=r"already follows 0\.5\.23.*uninstall"):
        install("0.5.11")


def test_refused_where_sglang_is_already_imported(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sglang", types.ModuleType("sglang"))
    with pytest.raises(RuntimeError, match="sglang is already imported"):
        install()


def test_later_change_of_the_table_is_not_seen(install: Any, module: Callable[[str], Any]) -> None:
    table = install()
    table["release"] = "9.9.9"
    assert module("sglang").__version__ == "0.5.23"


def test_computed_member_without_behaviour_is_refused_by_name(install: Any) -> None:
    members = tables.load("0.5.23").to_json()["members"]
    unknown = {**members[-1], "name": "foretell", "default": {"kind": "code", "value": None}}
    with pytest.raises(RuntimeError, match=r"no behaviour for foretell of SGLang 0\.5\.23"):
        install(members=[*members, unknown])
    assert not any(name.startswith("sglang.") for name in sys.modules)


def test_unknown_built_in_platform_is_refused_by_name(install: Any) -> None:
    with pytest.raises(RuntimeError, match="cannot detect abacus"):
        install(detection=["cpu", "abacus"])


@pytest.mark.parametrize(
    "statement",
    [
        "import sglang.srt.managers.tokenizer_manager",
        "import sglang.srt.lora",
        "from sglang.srt import multimodal",
        "from sglang import Engine",
        "from sglang.srt.utils import is_npu",
        "from sglang.srt.utils.common import is_npu",
        "import sglang.srt.distributed.naive_distributed",
        "from sglang.srt.environ import envs; envs.SGLANG_CACHE_DIR",
    ],
)
def test_what_only_sglang_has_is_not_covered(install: Any, statement: str) -> None:
    install()
    with pytest.raises(sglang_reference.NotCovered, match="--sglang=installed") as caught:
        exec(statement, {})
    assert isinstance(caught.value, ImportError)
    assert caught.value.name
    assert f"does not cover {caught.value.name};" in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.name) == (type(caught.value), str(caught.value), caught.value.name)


def test_names_that_sglang_lacks_too_fail_in_the_ordinary_way(install: Any, module: Callable[[str], Any]) -> None:
    install("0.5.11")
    with pytest.raises(ImportError, match="cannot import name 'NoSuchName'") as caught:
        exec("from sglang.srt.platforms import NoSuchName", {})
    assert type(caught.value) is ImportError
    # 0.5.11 has no built-in platform at all.
    for name in ("sglang.srt.platforms.cpu", "sglang.srt.platforms.npu", "sglang.srt.plugins.nothing"):
        with pytest.raises(ModuleNotFoundError):
            module(name)
        assert importlib.util.find_spec(name) is None
    with pytest.raises(AttributeError):
        module("sglang.srt.platforms").no_such_attribute  # noqa: B018


def test_importing_the_reference_loads_nothing_heavy() -> None:
    code = "import sglang_reference, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "numpy", "psutil", "sglang", "sglang_conformance"} & set(loaded)


def test_a_file_of_the_reference_says_that_it_needs_a_table() -> None:
    with pytest.raises(ImportError, match="no contract table"):
        importlib.import_module("sglang_reference._contract")


def test_precompiling_loads_nothing() -> None:
    sglang_reference.precompile()
    assert "sglang_reference.platforms" not in sys.modules
    assert "sglang.srt" not in sys.modules
