from __future__ import annotations

import html.parser
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sglang_conformance import cli
from sglang_conformance.contract import tables
from sglang_conformance.contract.diff import Change, ContractDiff
from sglang_conformance.contract.index import Index, Symbol
from sglang_conformance.contract.page import page
from sglang_conformance.contract.target_diff import TargetChange, TargetDiff
from sglang_conformance.contract.text import diff_lines

Write = Callable[..., Path]
Captured = pytest.CaptureFixture[str]

CHANGES = ContractDiff(
    "1.0",
    "2.0",
    (
        Change("members", "renamed", "get_old", after="get_new", likely=True),
        Change("members", "added", "evil", after="(self, x: '<script>' = \"&\") -> None"),
        Change("members", "default changed", "f", "True", "False"),
        Change(
            "members", "signature changed", "g", "(self)", f"(self, {', '.join(f'argument_{n}' for n in range(30))})"
        ),
        Change("platform enum", "added", "SAIL"),
    ),
)
TARGETS = TargetDiff(
    "1.0",
    "2.0",
    9,
    (
        TargetChange("gone", "sglang.srt.a.C", "class", within=3),
        TargetChange("moved", "sglang.srt.a.f", "function (x)", "sglang.srt.b.f"),
        TargetChange("changed", "sglang.srt.a.g", "function (x)", "function (x: '<b>')"),
    ),
)


def run(capsys: Captured, *arguments: str) -> str:
    assert cli.main(["contract", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: Captured, *arguments: str) -> str:
    """The one line that says why."""
    assert cli.main(["contract", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_text_says_each_change_within_100_columns() -> None:
    lines = list(diff_lines(CHANGES, TARGETS, every_target=True))
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert lines[0] == "SGLang 1.0 to 2.0: 5 differences for platforms"
    assert "  renamed              get_old is likely get_new now" in lines
    assert "was  True\n" in text
    assert "now  False\n" in text
    assert "\nplatform enum\n  added                SAIL\n" in text
    assert "hook targets: of 9, 4 gone, 1 likely moved, 1 changed" in lines
    assert "  gone     sglang.srt.a.C, and 3 in it" in lines
    assert "to   sglang.srt.b.f" in text
    short = list(diff_lines(CHANGES, TARGETS, every_target=False))
    assert short[-1] == "hook targets: of 9, 4 gone, 1 likely moved, 1 changed (--hook-targets lists them)"


class Page(html.parser.HTMLParser):
    """What a page has: its tags, all closed where they must be, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.said = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def test_the_page_needs_nothing_else_and_escapes_what_it_shows() -> None:
    text = page(CHANGES, TARGETS, every_target=True)
    found = Page(text)
    assert found.open == []
    assert found.tags.isdisjoint({"script", "link", "img", "iframe", "b>"})
    assert "(self, x: '<script>' = \"&\") -> None" in found.said
    assert "function (x: '<b>')" in found.said
    assert "prefers-color-scheme: dark" in text
    assert "likely renamed" in found.said
    assert "sglang.srt.b.f" in found.said
    assert "sglang.srt.b.f" not in page(CHANGES, TARGETS, every_target=False)


def test_list_and_show(capsys: Captured) -> None:
    listed = run(capsys, "list").splitlines()
    assert [line.split()[0] for line in listed] == list(tables.releases())
    assert len({line.index(" members") for line in listed}) == 1
    shown = run(capsys, "show", "0.5.22")
    assert shown.startswith("SGLang 0.5.22\n")
    assert "get_mha_kv_pool_cls (use get_kv_pool_cls)" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert run(capsys, "show").startswith(f"SGLang {tables.newest()}\n")
    assert run(capsys, "show", "0.5.11", "--json") == tables.path("0.5.11").read_text(encoding="utf-8")


def test_diff_as_text_json_and_page(capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, function = Symbol("module"), Symbol("function", "()")
    older = Index("0.5.22", {"sglang.srt.a": module, "sglang.srt.a.f": function})
    newer = Index("0.5.23", {"sglang.srt.a": module})
    monkeypatch.setattr(tables, "load_indexes", lambda *releases: (older, newer))
    assert "  gone     sglang.srt.a.f" in run(capsys, "diff", "0.5.22", "0.5.23", "--hook-targets").splitlines()
    text = run(capsys, "diff", "0.5.22", "0.5.23")
    assert "hook targets: of 2, 1 gone, 0 likely moved, 0 changed (--hook-targets lists them)" in text
    assert "supports_pynccl" in text
    assert max(map(len, text.splitlines())) <= 100
    data = json.loads(run(capsys, "diff", "0.5.22", "0.5.23", "--json"))
    assert data["schema"] == "sglang-conformance/contract-diff/1"
    assert (data["older"], data["newer"]) == ("0.5.22", "0.5.23")
    found = {change["name"]: (change["area"], change["kind"]) for change in data["changes"]}
    assert found["supports_pynccl"] == ("capabilities", "added")
    assert data["hook_targets"]["gone"] == 1
    assert "changes" not in data["hook_targets"]
    data = json.loads(run(capsys, "diff", "0.5.22", "0.5.23", "--json", "--hook-targets"))
    assert [change["path"] for change in data["hook_targets"]["changes"]] == ["sglang.srt.a.f"]
    assert (
        run(capsys, "diff", "0.5.22", "0.5.23", "--html", str(tmp_path / "x.html"))
        == f"written to {tmp_path / 'x.html'}\n"
    )
    assert Page((tmp_path / "x.html").read_text(encoding="utf-8")).open == []


def test_bad_input_is_one_clear_line(capsys: Captured, tmp_path: Path) -> None:
    assert "no contract table for SGLang 9.9; there are: 0.5.11, " in refused(capsys, "show", "9.9")
    assert "no contract table for SGLang 9.9" in refused(capsys, "diff", "0.5.11", "9.9")
    assert "there is no folder" in refused(
        capsys, "diff", "0.5.11", "0.5.12", "--html", str(tmp_path / "no" / "x.html")
    )
    for place, said in (
        (tmp_path, f"--html={tmp_path}: that is a folder; name a file"),
        ("-", "--html=-: it is written to a file, not printed; name one"),
        ("/proc/x.html", "cannot write /proc/x.html: No such file or directory"),
    ):
        assert said in refused(capsys, "diff", "0.5.11", "0.5.12", "--html", str(place))
    assert "it holds neither sglang/srt nor srt; name the folder" in refused(capsys, "extract", str(tmp_path))
    assert "does not exist" in refused(capsys, "extract", str(tmp_path / "no.whl"))
    assert "is no folder; name the one that holds the tables" in refused(
        capsys, "extract", str(tmp_path), "--into", str(tmp_path / "no")
    )
    for wrong in (["diff", "0.5.11"], ["diff", "0.5.11", "0.5.12", "--json", "--html", "x"], []):
        with pytest.raises(SystemExit) as caught:
            cli.main(["contract", *wrong])
        assert caught.value.code == 2


ARGUMENTS = """
ATTENTION_BACKEND_CHOICES = ["triton"]
QUANTIZATION_CHOICES = ["fp8"]
@dataclass
class ServerArgs:
    port: int = 1
    def __post_init__(self):
        current_platform.apply_server_args_defaults(self)
"""


def test_a_release_is_added_by_one_command_which_says_what_is_new(
    capsys: Captured, sglang_tree: Write, tmp_path: Path
) -> None:
    (folder := tmp_path / "tables").mkdir()
    package = sglang_tree({"srt/server_args.py": ARGUMENTS, "srt/m.py": "def f(): ...\ndef g(): ...\n"})
    assert "9.8.7 is the first release in" in run(capsys, "extract", str(package), "--into", str(folder))
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*.*")} == {
        "9.8.7.json",
        "server_args/9.8.7.json",
        "index.xz",
    }
    before = (folder / "index.xz").read_bytes()
    assert "9.8.7 is the first release in" in run(capsys, "extract", str(package), "--into", str(folder))
    assert (folder / "index.xz").read_bytes() == before

    newer = "class SRTPlatform(DeviceMixin):\n    def get_thing(self, kind):\n        return None\n"
    files = {"_version.py": "__version__ = '9.9.0'", "srt/platforms/interface.py": newer, "srt/m.py": "def f(x): ...\n"}
    text = run(capsys, "extract", str(sglang_tree(files)), "--into", str(folder))
    assert "SGLang 9.8.7 to 9.9.0: 1 difference for platforms" in text
    assert "signature changed    get_thing" in text
    assert "1 gone, 0 likely moved, 2 changed" in text  # g; f and get_thing
    assert tables.load_from(folder, "9.9.0").release == "9.9.0"
    older = {**files, "_version.py": "__version__ = '9.0.0'", "srt/server_args.py": ARGUMENTS}
    assert "9.0.0 is the oldest release in" in run(capsys, "extract", str(sglang_tree(older)), "--into", str(folder))


def test_a_release_that_cannot_be_read_leaves_the_folder_as_it_was(
    capsys: Captured, sglang_tree: Write, tmp_path: Path
) -> None:
    (folder := tmp_path / "tables").mkdir()
    assert "sglang/srt/server_args.py" in refused(capsys, "extract", str(sglang_tree()), "--into", str(folder))
    (folder / "9.0.0.json").write_text("{}")
    package = sglang_tree({"srt/server_args.py": ARGUMENTS})
    said = refused(capsys, "extract", str(package), "--into", str(folder))
    assert "has no index of 9.0.0, whose contract is there; name a whole folder of tables" in said
    (folder / "9.0.0.json").unlink()
    (folder / "index.xz").write_bytes(b"broken")
    assert "the index is damaged" in refused(capsys, "extract", str(package), "--into", str(folder))
    assert [file.name for file in folder.iterdir()] == ["index.xz"]
