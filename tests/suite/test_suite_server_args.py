from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.suite.aids.drawn_arguments import single_settings
from sglang_conformance.suite.aids.server_args import Configuration, table
from sglang_conformance.suite.expect import NotCovered

PACKAGE = {
    "_version.py": "__version__ = '9.8.7'\n",
    "srt/server_args.py": """
ATTENTION_BACKEND_CHOICES = ["triton"]
QUANTIZATION_CHOICES = ["fp8"]

class ServerArgs:
    model_path: str
    of_this_release_alone: int = 5

    def __post_init__(self):
        current_platform.apply_server_args_defaults(self)
""",
}


def enter(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, str]) -> None:
    """Make a package of these files the SGLang that this process has entered."""
    for name, text in files.items():
        file = folder / "sglang" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    module = ModuleType("sglang")
    module.__path__ = [str(folder / "sglang")]
    monkeypatch.setitem(sys.modules, "sglang", module)


@pytest.fixture(autouse=True)
def _no_table_is_kept() -> Any:
    table.cache_clear()
    yield
    table.cache_clear()


def test_a_release_without_table_is_read_from_the_package_that_is_entered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    enter(monkeypatch, tmp_path, PACKAGE)
    assert table("9.8.7").fields == {"model_path": None, "of_this_release_alone": 5}
    assert Configuration("9.8.7", "cpu", {}).values == {"model_path": "model", "of_this_release_alone": 5}


def test_a_bundled_table_is_taken_before_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter(monkeypatch, tmp_path, PACKAGE)
    assert table("0.5.18") == tables.load_server_args("0.5.18")


def test_a_package_that_cannot_be_read_blames_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter(monkeypatch, tmp_path, {**PACKAGE, "srt/server_args.py": "class Other: ..."})
    with pytest.raises(NotCovered, match=r"of the installed SGLang 9\.8\.7 cannot be read: .*no class ServerArgs"):
        table("9.8.7")


def test_without_a_package_the_nearest_earlier_table_stands_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "sglang", raising=False)
    assert table("0.5.18.post1").release == "0.5.18"
    enter(monkeypatch, tmp_path, {"srt/environ.py": ""})  # as the reference's package, which has no arguments
    assert table("9.8.7").release == tables.server_args_releases()[-1]


@pytest.mark.parametrize("release", tables.server_args_releases())
def test_what_is_handed_over_holds_every_field_and_nothing_else(release: str) -> None:
    configuration = Configuration(release, "cpu", {})
    assert set(configuration.values) == set(table(release).fields)
    assert (configuration.unknown, configuration.changed, configuration.changed_in_place) == ({}, {}, {})
    assert configuration.handed.model_path == configuration.handed.tokenizer_path == "model"


@pytest.mark.parametrize("release", tables.server_args_releases())
def test_drawn_settings_are_fields_and_no_defaults(release: str) -> None:
    fields = table(release).fields
    drawn = [pair for chosen in single_settings(release) for pair in chosen.items()]
    assert len(drawn) > 60
    assert [(name, value) for name, value in drawn if fields[name] == value and fields[name] is not False] == []


@pytest.mark.parametrize(("release", "known"), [("0.5.13", False), ("0.5.14", True), ("0.5.18", True)])
def test_a_field_is_known_from_the_release_that_added_it(release: str, known: bool) -> None:
    configuration = Configuration(release, "cpu", {})
    configuration.handed.disable_decode_cuda_graph = True
    assert ("disable_decode_cuda_graph" not in configuration.unknown) is known
    assert ("disable_decode_cuda_graph" in configuration.changed) is known


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_a_method_of_the_real_class_is_not_covered_and_a_misspelt_field_is_an_error(release: str) -> None:
    handed = Configuration(release, "cpu", {}).handed
    with pytest.raises(NotCovered, match=r"uses ServerArgs\.url"):
        handed.url()
    with pytest.raises(AttributeError, match="atention_backend"):
        _ = handed.atention_backend
    assert not hasattr(handed, "atention_backend")
