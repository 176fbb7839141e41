from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sglang_conformance import cli
from sglang_conformance.contract import tables
from sglang_conformance.contract.errors import ContractError
from sglang_conformance.contract.extract_server_args import extract
from sglang_conformance.contract.server_args import ServerArguments

Write = Callable[..., Path]

SERVER_ARGS = "srt/server_args.py"
OVERRIDES = "srt/arg_groups/overrides.py"
PLATFORM_HOOK = "srt/arg_groups/platform_hook.py"
CHOICES = "ATTENTION_BACKEND_CHOICES = ['triton', 'aiter']\nQUANTIZATION_CHOICES = ['fp8']\n"
DIRECT = "def __post_init__(self):\n        current_platform.apply_server_args_defaults(self)\n"
GIVEN = "def handle(args):\n    run(args, current_platform.apply_server_args_defaults)\n"


def declaring(fields: str) -> dict[str, str]:
    """A release as up to 0.5.18: one dataclass, handed to the platform itself."""
    return {SERVER_ARGS: f"{CHOICES}SIZES = (4, 8)\n@dataclass\nclass ServerArgs:\n    {fields}\n    {DIRECT}"}


@pytest.mark.parametrize(
    ("declaration", "value"),
    [
        ("x: int = 3", 3),
        ("x: A[Optional[str], Arg(help='?')] = None", None),
        ("x: float = -0.5", -0.5),
        ("x: int = 10 * 1000 - 1 + 1", 10000),
        ("x: str = 'a' 'b'", "ab"),
        ("x: int = SIZES[0]", 4),
        ("x: tuple = SIZES", [4, 8]),
        ("x: list = field(default_factory=list)", []),
        ("x: dict = msgspec.field(default_factory=dict)", {}),
        ("x: list = dataclasses.field(default_factory=lambda: list(SIZES))", [4, 8]),
        ("x: int = field(default_factory=lambda: SIZES[1])", 8),
        ("x: int = field(default=7)", 7),
        ("x: int = 1\n    x: int = 2", 2),
    ],
)
def test_a_default_that_the_text_decides_is_read(sglang_tree: Write, declaration: str, value: Any) -> None:
    found = extract(sglang_tree(declaring(declaration)))
    assert found.fields == {"x": value}
    assert type(found.fields["x"]) is type(value)
    assert (found.required, found.computed) == ((), ())


@pytest.mark.parametrize(
    "declaration",
    [
        "x: bool = field(default_factory=lambda: is_hip())",
        "x: bool = field(default_factory=is_hip)",
        "x: list = field(default_factory=lambda: list(names()))",
        "x: int = cpu_count() * 2",
        "x: int = SIZES[9]",
        "x: str = SIZES * 'a'",
        "x: str = UNKNOWN",
        "x: object = object()",
    ],
)
def test_a_default_that_has_to_be_run_is_marked_as_computed(sglang_tree: Write, declaration: str) -> None:
    found = extract(sglang_tree(declaring(f"y: int = 1\n    {declaration}")))
    assert found.fields == {"x": None, "y": 1}
    assert found.computed == ("x",)


def test_a_field_without_default_is_required_and_what_is_no_field_is_left_out(sglang_tree: Write) -> None:
    found = extract(
        sglang_tree(
            declaring("path: str\n    a: ClassVar[int] = 1\n    b: dataclasses.InitVar[int] = 2\n    LIMIT = 3")
        )
    )
    assert found.fields == {"path": None}
    assert found.required == ("path",)
    assert found.members == ("LIMIT", "a", "b")


def test_one_dataclass_is_read_whole(sglang_tree: Write) -> None:
    methods = "x: int = 1\n    @property\n    def url(self): ...\n    def _own(self): ..."
    assert extract(sglang_tree(declaring(methods))) == ServerArguments(
        release="9.8.7",
        records_writes=False,
        attention_backends=("triton", "aiter"),
        quantizations=("fp8",),
        members=("_own", "url"),
        fields={"x": 1},
        types={"x": "int"},
        choices={},
        required=(),
        computed=(),
    )


def test_fields_are_collected_from_the_namespaces(sglang_tree: Write) -> None:
    found = extract(
        sglang_tree(
            {
                SERVER_ARGS: "class ServerArgs:\n    own: int = 1\n    def url(self): ...\nServerArgs._MAP = {}\n",
                "srt/arg_groups/choices.py": CHOICES,
                "srt/arg_groups/fields/device.py": "class Device(msgspec.Struct):\n    _NS_PATH = 'device'\n"
                "    device: str\n    gpu_id = Derived()\n    seed: int = 4 * 2\n",
                "srt/arg_groups/fields/tools.py": "class Tool:\n    name: str = ''\n",
                OVERRIDES: "def run(args, resolve):\n    return resolve(Recorder(args))\n",
                PLATFORM_HOOK: GIVEN,
            }
        )
    )
    assert found.fields == {"own": 1, "device": None, "seed": 8}
    assert found.required == ("device",)
    assert found.members == ("_MAP", "url")
    assert found.attention_backends == ("triton", "aiter")
    assert found.records_writes


@pytest.mark.parametrize(
    ("annotation", "types", "choices"),
    [
        ("int", "int", ()),
        ("int | None", "int | None", ()),
        ("A[Optional[str], 'what it is for']", "str | None", ()),
        ("Annotated[str, Arg(help='?', choices=KINDS)]", "str", ("a", "b")),
        ("A[str, Arg(choices=SHARED + ['c'])]", "str", ("s", "c")),
        ("A[int, Arg(choices=[1, 2])]", "int", ()),
        ("A[str, Arg(choices=sorted(UNKNOWN))]", "str", ()),
        ("Optional[Literal['x', 'y']]", "str | None", ("x", "y")),
        ("Literal[None, 'x']", "None | str", ("x",)),
        ("Literal[1, 2]", "int", ()),
        ("List[int]", "list[int]", ()),
        ("Optional[list[dict[str, Any]]]", "list | None", ()),
        ("Union[str, Dict[str, int]]", "str | dict", ()),
        ("Optional[Callable]", "any | None", ()),
        ("Own", "any", ()),
    ],
)
def test_what_a_field_may_hold_is_read_from_its_annotation(
    sglang_tree: Write, annotation: str, types: str, choices: tuple[str, ...]
) -> None:
    files = declaring(f"x: {annotation} = None")
    files[SERVER_ARGS] = f"KINDS = ['a', 'b']\n{files[SERVER_ARGS]}"
    shared = {"srt/arg_groups/choices.py": f"{CHOICES}SHARED = ['s']\n"}
    found = extract(sglang_tree({**files, **shared}))
    assert found.types == {"x": types}
    assert found.choices.get("x", ()) == choices


def test_choices_are_read_from_the_command_lines_options(sglang_tree: Write) -> None:
    options = "def add_cli_args(parser):\n        parser.add_argument('--one-two', '-o', choices=['p', 'q'])\n"
    found = extract(
        sglang_tree(declaring(f"one_two: str = 'p'\n    {options}        parser.add_argument('--three')\n"))
    )
    assert found.choices == {"one_two": ("p", "q")}


@pytest.mark.parametrize(
    ("function", "records"),
    [
        ("def run(args, resolve):\n    return resolve(args)\n", False),
        ("def run(args, resolve):\n    resolve(Recorder(args))\n", True),
        ("def run(args, resolve):\n    view = Recorder(args)\n    resolve(view)\n", True),
        (
            "def run(args, resolve):\n    if odd(args):\n        return resolve(args)\n    resolve(Recorder(args))\n",
            True,
        ),
    ],
)
def test_whether_the_platform_is_handed_a_recorder_is_told_by_what_is_done(
    sglang_tree: Write, function: str, records: bool
) -> None:
    args = f"{CHOICES}class ServerArgs:\n    x: int = 1\n"
    found = extract(sglang_tree({SERVER_ARGS: args, OVERRIDES: function, PLATFORM_HOOK: GIVEN}))
    assert found.records_writes is records


def test_a_recorder_handed_over_in_place_is_seen(sglang_tree: Write) -> None:
    hook = "def handle(args):\n    view = Recorder(args)\n    current_platform.apply_server_args_defaults(view)\n"
    args = f"{CHOICES}class ServerArgs:\n    x: int = 1\n"
    assert extract(sglang_tree({SERVER_ARGS: args, PLATFORM_HOOK: hook})).records_writes


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, r"has no sglang/srt/server_args\.py"),
        ({SERVER_ARGS: CHOICES}, "defines no class ServerArgs"),
        ({SERVER_ARGS: "class ServerArgs(:"}, r"cannot parse sglang/srt/server_args\.py:1"),
        ({SERVER_ARGS: f"{CHOICES}class ServerArgs(Base):\n    x: int = 1\n"}, "has a base class, Base"),
        ({SERVER_ARGS: f"{CHOICES}class ServerArgs:\n    {DIRECT}"}, "no field of ServerArgs was found"),
        ({SERVER_ARGS: f"{CHOICES}class ServerArgs:\n    x: int = 1\n"}, "no place was found that asks the platform"),
        (
            {SERVER_ARGS: f"{CHOICES}class ServerArgs:\n    x: int = 1\n", PLATFORM_HOOK: GIVEN},
            "run, which is given apply_server_args_defaults, was not found",
        ),
        (
            {
                SERVER_ARGS: f"{CHOICES}class ServerArgs:\n    x: int = 1\n",
                OVERRIDES: "def run(args, resolve):\n    kept.append(resolve)\n",
                PLATFORM_HOOK: GIVEN,
            },
            "it cannot be seen what it does",
        ),
        (
            {SERVER_ARGS: f"QUANTIZATION_CHOICES = []\nclass ServerArgs:\n    x: int = 1\n    {DIRECT}"},
            "no literal list ATTENTION_BACKEND_CHOICES",
        ),
        (
            {SERVER_ARGS: declaring("x: int = 1")[SERVER_ARGS].replace("['fp8']", "sorted(REGISTERED)")},
            "no literal list QUANTIZATION_CHOICES",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(sglang_tree: Write, files: dict[str, str], told: str) -> None:
    with pytest.raises(ContractError, match=told) as caught:
        extract(sglang_tree(files))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("release", tables.server_args_releases())
def test_a_table_says_its_own_release_and_reads_back_as_written(release: str) -> None:
    found = tables.load_server_args(release)
    assert found.release == release
    assert tables.dump(found) == tables.server_args_path(release).read_text(encoding="utf-8")
    assert {*found.required, *found.computed} <= set(found.fields)
    assert set(found.members).isdisjoint(found.fields)
    assert set(found.types) == set(found.fields)
    assert set(found.choices) <= set(found.fields)


@pytest.mark.parametrize("release", tables.server_args_releases())
def test_the_bundled_table_is_what_the_released_wheel_says(release: str, wheel: Callable[[str], Path]) -> None:
    assert tables.dump(extract(wheel(release))) == tables.server_args_path(release).read_text(encoding="utf-8")


def test_every_release_from_0_5_11_to_0_5_23_has_a_table() -> None:
    assert tables.server_args_releases() == tables.releases()
    assert set(tables.releases()) >= {f"0.5.{patch}" for patch in range(11, 24)}


def test_the_tables_say_what_the_releases_have() -> None:
    found = {release: tables.load_server_args(release) for release in tables.server_args_releases()}
    assert [r for r in found if found[r].records_writes] == ["0.5.20", "0.5.21", "0.5.22", "0.5.23"]
    assert {r[:6] for r in found if found[r].computed == ("pre_warm_nccl",)} == {"0.5.11", "0.5.12", "0.5.13"}
    assert all(table.required == ("model_path",) for table in found.values())
    assert {r[:6] for r in found if "cuda_graph_bs" in found[r].fields} == {"0.5.11", "0.5.12", "0.5.13"}
    assert [r for r in found if "cuda_graph_config" not in found[r].fields] == [
        "0.5.11",
        "0.5.12",
        "0.5.12.post1",
        "0.5.13",
        "0.5.13.post1",
    ]
    assert [len(found[r].fields) for r in ("0.5.11", "0.5.18", "0.5.23")] == [368, 472, 546]
    assert found["0.5.11"].fields["encoder_transfer_backend"] == "zmq_to_scheduler"
    assert found["0.5.23"].fields["speculative_ngram_capacity"] == 10_000_000
    assert found["0.5.11"].choices["tokenizer_mode"] == ("auto", "slow")
    assert found["0.5.23"].types["mem_fraction_static"] == "float | None"
    assert {table.choices["attention_backend"] == table.attention_backends for table in found.values()} == {True}
    assert "url" in found["0.5.11"].members
    assert "launch_command" in found["0.5.23"].members


@pytest.mark.parametrize(
    ("asked", "given"),
    [("0.5.11", "0.5.11"), ("0.5.18.post2", "0.5.18"), ("0.5.12rc1", "0.5.11"), ("0.9.0", "0.5.23")],
)
def test_the_nearest_earlier_table_stands_in(asked: str, given: str) -> None:
    assert tables.load_server_args_before(asked).release == given


def test_a_release_before_the_first_table_is_refused() -> None:
    with pytest.raises(ContractError, match=r"no table of server arguments for SGLang 0\.5\.10, nor"):
        tables.load_server_args_before("0.5.10")
    with pytest.raises(ContractError, match=r"no table of server arguments for SGLang 0\.5\.10; there are: 0\.5\.11, "):
        tables.load_server_args("0.5.10")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"release": "1.0"}'])
def test_a_damaged_table_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    (tmp_path / "1.0.json").write_text(text)
    monkeypatch.setattr(tables, "_server_args_folder", lambda: tmp_path)
    with pytest.raises(ContractError, match=r"1\.0\.json is damaged"):
        tables.load_server_args("1.0")


def test_the_command_prints_the_table(sglang_tree: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sglang_tree(declaring("x: int = 1"))
    assert cli.main(["contract", "extract", "--server-args", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed == tables.dump(extract(folder))
    assert ServerArguments.from_json(json.loads(printed)) == extract(folder)
    assert cli.main(["contract", "extract", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == {"platforms": "group.platforms", "plugins": "group.plugins"}


def test_the_command_says_what_cannot_be_read(sglang_tree: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["contract", "extract", str(sglang_tree()), "--server-args"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "has no sglang/srt/server_args.py" in captured.err
