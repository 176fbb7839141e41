from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sglang_conformance import config
from sglang_conformance.config import DEFAULT_DEADLINE, DEFAULT_EXAMPLES, Config
from sglang_conformance.contract.errors import ContractError
from sglang_conformance.errors import OptionError
from sglang_conformance.hosts import choose
from sglang_conformance.requirements.model import PROFILES

FOLDER = Path("/somewhere/project")


def resolved(**changes: Any) -> Config:
    options: dict[str, Any] = {
        "platform": "cpu",
        "sglang": "reference",
        "contract": None,
        "profile": None,
        "waivers": None,
        "certificate": "report",
        "examples": None,
        "deadline": None,
        "world_size": None,
        "folder": FOLDER,
    }
    return config.resolve(**{**options, **changes})


def test_defaults_are_the_newest_reference_and_all_profiles() -> None:
    found = resolved()
    assert (found.host.kind, found.host.release) == ("reference", "0.5.23")
    assert found.profiles is None
    assert found.waivers is None
    assert (found.examples, found.deadline) == (DEFAULT_EXAMPLES, DEFAULT_DEADLINE)
    assert found.subject.in_tree


@pytest.mark.parametrize(("given", "meant"), [("report", FOLDER / "report"), ("/abs/report", Path("/abs/report"))])
def test_folders_are_taken_from_where_pytest_was_called(given: str, meant: Path) -> None:
    assert resolved(certificate=given).certificate == meant
    assert resolved(waivers=given).waivers == meant


def test_numbers_are_kept() -> None:
    found = resolved(examples=7, deadline=0.5)
    assert (found.examples, found.deadline) == (7, 0.5)


@pytest.mark.parametrize("examples", [0, -5])
def test_examples_below_one_are_refused(examples: int) -> None:
    with pytest.raises(OptionError, match=f"^--examples={examples}: at least 1 is needed$"):
        resolved(examples=examples)


@pytest.mark.parametrize(("text", "sizes"), [("2", (2,)), ("4,2", (2, 4)), (" 8 , 8,1", (1, 8))])
def test_sizes_of_groups_are_a_list_in_order(text: str, sizes: tuple[int, ...]) -> None:
    assert resolved(world_size=text).world_sizes == sizes


@pytest.mark.parametrize("text", ["", ",", "0", "-2", "two", "2;4", "2.0", "1025"])
def test_sizes_that_are_no_numbers_of_ranks_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match=f"^--world-size={text}: numbers of ranks from 1 to 1024 are needed"):
        resolved(world_size=text)


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan"), float("inf")])
def test_deadline_that_is_no_time_is_refused(deadline: float) -> None:
    with pytest.raises(OptionError, match=r"^--deadline=.*a number of seconds above 0 is needed$"):
        resolved(deadline=deadline)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("core", ("core",)),
        ("graphs, distributed", ("core", "graphs", "distributed")),
        ("graphs,core,graphs,", ("core", "graphs")),
    ],
)
def test_profiles_are_a_list_without_repetition_that_stands_on_core(text: str, names: tuple[str, ...]) -> None:
    assert resolved(profile=text).profiles == names


@pytest.mark.parametrize("text", ["", ",", "speed", "core,speed", "CORE"])
def test_unknown_profile_lists_what_there_is(text: str) -> None:
    with pytest.raises(OptionError, match="no such profile; there are " + ", ".join(PROFILES)):
        resolved(profile=text)


@pytest.mark.parametrize("name", ["nope", "", "CPU", "cpu "])
def test_unknown_platform_lists_what_is_built_in(name: str) -> None:
    with pytest.raises(OptionError, match=r"built into SGLang 0\.5\.23: cpu, .*cuda"):
        resolved(platform=name)


def test_oldest_release_has_no_platform_built_in() -> None:
    with pytest.raises(OptionError, match=r"built into SGLang 0\.5\.11: none"):
        resolved(platform="cpu", contract="0.5.11")


def test_unknown_release_lists_what_there_is() -> None:
    with pytest.raises(OptionError, match=r"^--contract=0\.5\.99: .*0\.5\.11.*0\.5\.23"):
        resolved(contract="0.5.99")


# The choice of the host.


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_installed_folder", lambda: None)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An SGLang 0.5.23 on the import path: as much of it as is looked at without importing it."""
    for room in ("platforms", "plugins"):
        (tmp_path / "sglang" / "srt" / room).mkdir(parents=True)
        (tmp_path / "sglang" / "srt" / room / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "sglang" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    metadata = tmp_path / "sglang-0.5.23.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sglang\nVersion: 0.5.23\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("nothing_installed")
def test_reference_is_taken_where_no_sglang_is_installed() -> None:
    assert choose.choose("auto", None).kind == "reference"
    with pytest.raises(choose.HostError, match=r"no SGLang is installed.*--sglang=reference"):
        choose.choose("installed", None)


@pytest.mark.usefixtures("installed")
def test_installed_sglang_is_taken_without_importing_it() -> None:
    host = choose.choose("auto", None)
    assert (host.kind, host.release) == ("installed", "0.5.23")
    assert choose.choose("installed", "0.5.23") == host
    assert choose.choose("reference", None).kind == "reference"


@pytest.mark.usefixtures("installed")
def test_installed_sglang_is_certified_for_itself_only() -> None:
    with pytest.raises(choose.HostError, match=r"^--contract=0\.5\.11: the installed SGLang is 0\.5\.23"):
        choose.choose("installed", "0.5.11")
    other = choose.choose("auto", "0.5.11")
    assert (other.kind, other.release) == ("reference", "0.5.11")


def test_checkout_in_front_of_an_installed_release_is_taken_for_what_it_says(installed: Path) -> None:
    (installed / "sglang" / "_version.py").write_text("__version__ = version = '0.5.22'\n")
    assert choose.choose("installed", None).release == "0.5.22"
    with pytest.raises(choose.HostError, match=r"^--contract=0\.5\.23: the installed SGLang is 0\.5\.22"):
        choose.choose("installed", "0.5.23")
    assert choose.choose("auto", "0.5.23").kind == "reference"


@pytest.mark.parametrize("said", ["0.0.0.dev0", "0.1.dev1+g1234", "0.5.10.post2"])
def test_installed_sglang_before_the_contract_is_refused_with_the_usual_reason(installed: Path, said: str) -> None:
    (installed / "sglang" / "_version.py").write_text(f"__version__ = '{said}'\n")
    with pytest.raises(choose.HostError, match=r"says that it is 0\..*since 0\.5\.11.*git fetch --tags.*reference$"):
        choose.choose("installed", None)


@pytest.mark.parametrize("said", ["", "main"])
def test_installed_sglang_that_names_no_release_is_refused(
    installed: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "sglang-0.5.23.dist-info").rename(installed / "elsewhere.dist-info")
    (installed / "sglang" / "version.py").write_text(f"__version__ = '{said}'\n")
    monkeypatch.setattr(sys, "path", [str(installed)])  # whatever this environment has
    with pytest.raises(choose.HostError, match=r"does not say which release it is.*pip install -e"):
        choose.choose("installed", None)
    assert choose.choose("auto", "0.5.22").kind == "reference"


def test_contract_of_an_unknown_release_is_read_out_of_the_installed_package(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editable installation may lack the file with its version: then its metadata tells it."""
    (installed / "sglang-0.5.23.dist-info").rename(installed / "named.dist-info")
    metadata = installed / "elsewhere" / "sglang-0.5.24.dev3+g1234.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sglang\nVersion: 0.5.24.dev3+g1234\n")
    monkeypatch.syspath_prepend(str(metadata.parent))
    with pytest.raises(ContractError, match=r"^SGLang 0\.5\.24\.dev3\+g1234 at .* has no platform contract"):
        choose.choose("installed", None)


@pytest.mark.parametrize("file", ["plugins/__init__.py", "distributed/parallel_state.py", "environ.py"])
def test_digest_of_the_installed_host_follows_its_files(installed: Path, file: str) -> None:
    before = choose.choose("installed", None).digest
    changed = installed / "sglang" / "srt" / file
    changed.parent.mkdir(exist_ok=True)
    changed.write_text("changed = True\n")
    assert choose.choose("installed", None).digest != before


def test_folder_that_merely_has_the_name_is_no_sglang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sglang").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert choose._installed_folder() is None
