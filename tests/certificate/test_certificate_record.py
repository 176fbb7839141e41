from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given

from sglang_conformance.certificate.folder import FolderError, prepare, write
from sglang_conformance.certificate.record import RecordError, digest, dumps, from_json, read, to_json
from sglang_conformance.certificate.verify import verify
from sglang_conformance.requirements.loader import Catalogue
from sglang_conformance.requirements.model import Requirement

from .factories import FINDING, Case, cases, drawn, judge, requirement, saw

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "reports/schemas/certificate-1.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
A, B, C = "MEM-001", "MEM-002", "MEM-003"
RULES = (requirement(A), requirement(B, A), requirement(C, level="SHOULD"))
FAILING = judge(
    RULES,
    [saw("fail", A, message="m", finding=FINDING, seconds=0.5), saw("pass", B), saw("fail", C)],
    environment={"python": "3.11.9", "options": ["--platform=mlu"]},
)
RECORD = to_json(FAILING)


def put(folder: Path, data: Any) -> Path:
    path = folder / "certificate.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "digest": digest(data)}


def changed(*path: str, to: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(RECORD))
    part = data
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    return data


def test_the_record_has_the_published_shape() -> None:
    data = json.loads(dumps(FAILING))
    assert data.pop("digest") == digest(data)
    assert data == {
        "schema": "sglang-conformance/certificate/1",
        "kind": "certification",
        "reasons": [],
        "kit": {"version": "0.1.0", "digest": "aa11"},
        "host": {"kind": "reference", "sglang": "0.5.23", "digest": "bb22"},
        "contract": "0.5.23",
        "platform": {
            "name": "mlu",
            "distribution": "vendor-mlu",
            "version": "1.4.0",
            "class": "vendor.platform.Mlu",
            "digest": "cc33",
            "in_tree": False,
        },
        "environment": {"python": "3.11.9", "options": ["--platform=mlu"]},
        "profiles": {
            "core": {
                "verdict": "not-conformant",
                "required": 2,
                "pass": 0,
                "fail": 1,
                "waived": 0,
                "unsupported": 0,
                "blocked": 1,
                "not-run": 0,
                "host-defect": 0,
                "warnings": 1,
            }
        },
        "requirements": {
            A: {
                "outcome": "fail",
                "level": "MUST",
                "profile": "core",
                "checks": ["suite/test_x.py::test_MEM-001"],
                "message": "m",
                "finding": dict(vars(FINDING)),
                "reproduce": "pytest --platform=mlu -k MEM-001",
                "cause": "",
                "seconds": 0.5,
            },
            B: {
                "outcome": "blocked",
                "level": "MUST",
                "profile": "core",
                "checks": ["suite/test_x.py::test_MEM-002"],
                "message": "stands on MEM-001 (The rule MEM-001)",
                "finding": None,
                "reproduce": "pytest --platform=mlu -k MEM-002",
                "cause": A,
                "seconds": 0.0,
            },
            C: {
                "outcome": "fail",
                "level": "SHOULD",
                "profile": "core",
                "checks": ["suite/test_x.py::test_MEM-003"],
                "message": "",
                "finding": None,
                "reproduce": "pytest --platform=mlu -k MEM-003",
                "cause": "",
                "seconds": 0.0,
            },
        },
    }


def test_the_digest_is_reproducible_by_hand() -> None:
    rest = {key: value for key, value in RECORD.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    assert RECORD["digest"] == hashlib.sha256(text.encode()).hexdigest()


@drawn
@given(cases(wild=True))
def test_every_record_reads_back_and_keeps_the_schema(case: Case) -> None:
    certificate = case.certify()
    data = json.loads(dumps(certificate))
    VALIDATOR.validate(data)
    assert data["digest"] == digest(data)
    assert from_json(json.loads(json.dumps(to_json(certificate)))) == certificate


def test_odd_values_in_the_environment_do_not_lose_the_record() -> None:
    odd: Any = {"path": Path("a"), 3: {"b"}, "nan": float("nan"), "t": (1, None, True), "lone": "\ud800"}
    data = json.loads(dumps(replace(FAILING, run=replace(FAILING.run, environment=odd))))
    assert data["environment"] == {"path": "a", "3": ["b"], "nan": "nan", "t": [1, None, True], "lone": "\ud800"}


@pytest.mark.parametrize(
    "data",
    [
        changed("requirements", A, "outcome", to="passed"),
        changed("requirements", A, "colour", to="red"),
        changed("requirements", A, "cause", to=B),
        changed("requirements", to={"mem-1": RECORD["requirements"][A]}),
        changed("profiles", "core", "fail", to=-1),
        changed("kind", to="development"),
        changed("reasons", to=["narrowed"]),
        changed("digest", to="00"),
        changed("extra", to=1),
        {key: value for key, value in RECORD.items() if key != "environment"},
        {
            **changed("profiles", "core", "verdict", to="conformant"),
            "kind": "development",
            "reasons": ["narrowed"],
        },
    ],
)
def test_the_schema_is_strict(data: dict[str, Any]) -> None:
    VALIDATOR.validate(RECORD)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(data)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{", "certificate.json: is not JSON"),
        (b"\xff\xff", "certificate.json: is not JSON"),
        (b"[" * 100_000, "certificate.json: is not JSON"),
        (b"[]", "certificate.json: is not a record"),
        (b'{"a": 1, "a": 2}', "certificate.json: a is there twice"),
        (b'{"a": NaN}', "certificate.json: NaN is no JSON number"),
        (b"{}", "certificate.json: schema is None; this kit reads 'sglang-conformance/certificate/1'"),
    ],
)
def test_a_file_that_is_no_record_is_refused_in_one_line(tmp_path: Path, content: bytes, error: str) -> None:
    path = tmp_path / "certificate.json"
    path.write_bytes(content)
    with pytest.raises(RecordError) as raised:
        read(path)
    assert str(raised.value).startswith(error)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (changed("schema", to="x/2"), "schema is 'x/2'"),
        (changed("kit", to={"version": "1"}), "kit: digest is missing"),
        (changed("platform", "in_tree", to=0), "platform: in_tree is not of the right kind: int"),
        (changed("profiles", "core", "verdict", to="good"), "profiles: core: verdict is 'good', not one of conformant"),
        (changed("profiles", "core", "fail", to=True), "profiles: core: fail is not of the right kind: bool"),
        (changed("requirements", A, "outcome", to="passed"), "requirements: MEM-001: outcome is 'passed', not one of"),
        (changed("requirements", A, "checks", to=[1]), "requirements: MEM-001: checks is not a list of texts"),
        (changed("requirements", A, "finding", to={}), "requirements: MEM-001: finding: expected is missing"),
        (changed("requirements", A, "seconds", to="1"), "requirements: MEM-001: seconds is not of the right kind: str"),
        (changed("requirements", to=[]), "requirements is not of the right kind: list"),
    ],
)
def test_a_wrong_part_is_named(tmp_path: Path, data: dict[str, Any], error: str) -> None:
    with pytest.raises(RecordError) as raised:
        read(put(tmp_path, data))
    assert str(raised.value).startswith(f"certificate.json: {error}")


def test_a_folder_is_made_written_and_verified(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    prepare(folder)
    write(FAILING, RULES, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["certificate.json", "junit.xml"]
    assert read(folder / "certificate.json") == FAILING
    assert verify(folder) == []


def test_preparing_removes_the_record_of_an_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    write(FAILING, RULES, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failed_write_leaves_the_earlier_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(FAILING, RULES, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FolderError, match="No space left on device; give another folder with --certificate"):
        write(judge(RULES, []), RULES, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_where_a_folder_is_meant_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(FolderError) as raised:
        prepare(file)
    assert str(raised.value) == f"{file}: is a file; --certificate takes a folder"
    with pytest.raises(FolderError, match="is a file; --certificate takes a folder"):
        write(FAILING, RULES, file)
    with pytest.raises(FolderError, match="Not a directory"):
        prepare(file / "below")
    assert file.read_text() == "precious"


@pytest.mark.parametrize("folder", ["/proc/self/nowhere", "/proc", "x" * 300, "nul\0"])
def test_an_unwritable_folder_is_refused_in_one_line(folder: str, tmp_path: Path) -> None:
    with pytest.raises(FolderError) as raised:
        prepare(tmp_path / folder)
    assert "cannot be written" in str(raised.value)
    assert "\n" not in str(raised.value)


def altered(folder: Path, data: dict[str, Any]) -> list[str]:
    write(FAILING, RULES, folder)
    put(folder, data)
    return verify(folder)


def test_a_changed_record_does_not_verify(tmp_path: Path) -> None:
    assert altered(tmp_path, changed("kit", "version", to="9")) == [
        "digest: the record was changed after it was written"
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            changed("profiles", "core", "verdict", to="conformant"),
            "core: claims conformant, but its outcomes make it not-conformant",
        ),
        (changed("profiles", "core", "required", to=1), "core: says 1 required, but its outcomes give 2"),
        (changed("profiles", "core", "pass", to=5), "core: says 5 pass, but its outcomes give 0"),
        (changed("profiles", "core", "warnings", to=0), "core: says 0 warnings, but its outcomes give 1"),
        (
            changed("requirements", A, "level", to="SHOULD"),
            "core: claims not-conformant, but its outcomes make it incomplete",
        ),
        (
            changed("requirements", A, "outcome", to="pass"),
            "junit.xml: core: MEM-001 is failure, but passed in the record",
        ),
        (
            changed("requirements", A, "outcome", to="pass"),
            "MEM-002: is blocked by MEM-001, which is not among what failed",
        ),
        (changed("requirements", A, "checks", to=[]), "MEM-001: is fail, but no check saw it"),
        (
            changed("requirements", A, "profile", to="graphs"),
            "MEM-001: is of the profile graphs, which the record does not hold",
        ),
        (changed("requirements", A, "cause", to=B), "MEM-001: is fail, but names MEM-002 as what blocks it"),
        (changed("requirements", to={}), "junit.xml: core: MEM-001 is failure, but absent in the record"),
        (changed("profiles", to={}), "profiles: there is none, so nothing is certified"),
        (changed("profiles", to={}), "junit.xml: the profile core is not in the record"),
        (changed("kind", to="development"), "kind: says development, but 0 reasons make it a certification run"),
        (
            {**changed("profiles", "core", "verdict", to="conformant"), "kind": "development", "reasons": ["-k"]},
            "a development run cannot certify, but core claims to be conformant",
        ),
    ],
)
def test_a_resealed_record_that_contradicts_itself_does_not_verify(
    tmp_path: Path, data: dict[str, Any], problem: str
) -> None:
    assert problem in altered(tmp_path, sealed(data))


def test_a_requirement_twice_does_not_verify(tmp_path: Path) -> None:
    write(FAILING, RULES, tmp_path)
    path = tmp_path / "certificate.json"
    path.write_text(path.read_text().replace(f'"{C}": {{', f'"{A}": {{'))
    assert verify(tmp_path) == ["certificate.json: MEM-001 is there twice"]


def test_an_absent_report_or_record_does_not_verify(tmp_path: Path) -> None:
    write(FAILING, RULES, tmp_path)
    (tmp_path / "junit.xml").unlink()
    assert verify(tmp_path) == ["junit.xml: cannot be read: No such file or directory"]
    (tmp_path / "certificate.json").unlink()
    assert verify(tmp_path) == ["certificate.json: cannot be read: No such file or directory"]


def test_a_report_of_another_run_does_not_verify(tmp_path: Path) -> None:
    write(judge(RULES, [saw("pass", A, B, C)]), RULES, tmp_path)
    put(tmp_path, RECORD)
    assert verify(tmp_path) == [
        "junit.xml: core: MEM-001 is passed, but failure in the record",
        "junit.xml: core: MEM-002 is passed, but error in the record",
        "junit.xml: core: MEM-003 is passed, but skipped in the record",
    ]


def test_against_the_catalogue_what_was_left_out_or_lowered_shows(tmp_path: Path) -> None:
    def problems(*rules: Requirement) -> list[str]:
        return verify(tmp_path, Catalogue(rules, {"MEM": "Memory"}))

    write(FAILING, RULES, tmp_path)
    assert problems(*RULES) == []
    assert problems(*RULES, requirement("MEM-004"), requirement("MEM-005", scope="in-tree")) == [
        "MEM-004: applies to this platform, but is not in the record"
    ]
    assert problems(RULES[0], RULES[1], requirement(C)) == ["MEM-003: is MUST in core, but not in the record"]
    assert problems(*RULES[:2]) == ["MEM-003: does not apply to this platform, but is in the record"]


@drawn
@given(case=cases(wild=True))
def test_every_written_record_verifies(case: Case, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("record")
    certificate = case.certify()
    write(certificate, case.requirements, folder)
    assert verify(folder) == []
    assert read(folder / "certificate.json") == certificate
