from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.suite.aids import assigned
from sglang_conformance.suite.aids.applied import is_told
from sglang_conformance.suite.aids.drawn_arguments import further_settings, single_settings
from sglang_conformance.suite.aids.graph_settings import GraphConfig
from sglang_conformance.suite.aids.pace import LEAST, in_time, pace
from sglang_conformance.suite.aids.server_args import Configuration, table
from sglang_conformance.suite.expect import NotCovered, is_uncovered

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


@pytest.mark.parametrize("release", tables.server_args_releases())
def test_every_other_field_has_a_setting_of_its_type_that_is_no_default(release: str) -> None:
    known = table(release)
    drawn = [pair for chosen in further_settings(release) for pair in chosen.items()]
    assert len({name for name, _ in drawn}) == len(drawn) > 300
    assert [(name, value) for name, value in drawn if known.fields[name] == value] == []
    assert {name: value for name, value in drawn if assigned.wrong(known, "cpu", {name: value})} == {}


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("page_size", 128, True),
        ("page_size", "128", False),
        ("page_size", 0, False),
        ("page_size", None, True),
        ("mem_fraction_static", 0.85, True),
        ("mem_fraction_static", 85, False),
        ("disable_radix_cache", True, True),
        ("disable_radix_cache", 1, False),
        ("disable_radix_cache", None, False),
        ("watchdog_timeout", 300, True),
        ("cuda_graph_bs_decode", (1, 2), True),
        ("cuda_graph_bs_decode", ["1"], False),
        ("dtype", "auto", True),
        ("device", "npu", True),
        ("device", "acme", False),
        ("cuda_graph_config", None, False),
        ("cuda_graph_config", GraphConfig(), True),
        ("custom_sigquit_handler", print, True),
    ],
)
def test_what_a_field_may_hold(name: str, value: Any, right: bool) -> None:
    assert (name not in assigned.wrong(table("0.5.23"), "npu", {name: value})) is right


@pytest.mark.parametrize(("release", "given"), [("0.5.13", False), ("0.5.14", True), ("0.5.23", True)])
def test_graph_settings_of_the_users_are_resolved_and_noted(release: str, given: bool) -> None:
    handed = Configuration(release, "cpu", {"disable_decode_cuda_graph": True}).handed
    assert hasattr(handed, "_cuda_graph_config_locked") is given
    if given:
        assert handed._cuda_graph_config_locked == {("decode", "backend")}
        assert (handed.cuda_graph_config.decode.backend, handed.cuda_graph_config.prefill.backend) == ("disabled",) * 2


@pytest.mark.parametrize(("release", "given"), [("0.5.18", False), ("0.5.19", True), ("0.5.20", True)])
def test_what_the_user_gave_is_noted(release: str, given: bool) -> None:
    handed = Configuration(release, "cpu", {"page_size": 64}).handed
    assert hasattr(handed, "_raw_input") is given
    if given:
        assert (handed._raw_input["page_size"], handed._raw_input["device"]) == (64, None)


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_what_else_sglang_keeps_for_itself_is_not_covered(release: str) -> None:
    configuration = Configuration(release, "cpu", {})
    with pytest.raises(AttributeError, match=r"uses ServerArgs\._published") as caught:
        _ = configuration.handed._published
    assert is_uncovered(caught.value)
    assert getattr(configuration.handed, "_acme_done", False) is False
    configuration.handed._acme_done = True
    assert (configuration.handed._acme_done, configuration.unknown) == (True, {})


@pytest.mark.parametrize(
    ("name", "pair", "text", "told"),
    [
        ("page_size", (64, 128), "acme needs --page-size 128", True),
        ("page_size", (64, 128), "acme needs another page size", True),
        ("max_running_requests", (4096, 2048), "at most 2048 requests", True),
        ("enable_torch_compile", (True, False), "no torch.compile on acme", True),
        ("cuda_graph_config.decode.backend", ("full", "disabled"), "acme has no CUDA graphs", True),
        ("page_size", (64, 128), "the firmware is old", False),
        ("page_size", (64, 1), "read 64128 registers", False),
    ],
)
def test_a_warning_tells_of_a_setting(name: str, pair: tuple[Any, Any], text: str, told: bool) -> None:
    assert is_told(name, pair, (text,)) is told


def test_as_many_cases_are_taken_as_fit_into_the_time() -> None:
    pace.cache_clear()
    assert list(in_time(range(99), 0.0)) == list(range(LEAST))
    pace.cache_clear()
    assert list(in_time(range(99), 600.0)) == list(range(99))
    pace.cache_clear()
