"""The record: by its schema, with every figure."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from bench.conftest import SCHEMA
from bench.taken import SETTING, measured, on_cpu
from sglang_conformance import console
from sglang_conformance.bench import record
from sglang_conformance.bench.model import ENGINES, ITEM_BYTES


def test_record_is_by_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    data = json.loads(record.dumps(SETTING, [measured(), measured(4, ranks=4, dtype="bfloat16", wrong=2)]))
    jsonschema.validate(data, SCHEMA)
    assert data["schema"] == record.SCHEMA == SCHEMA["$id"]
    assert data["wrong"] == 2
    assert len(data["results"]) == 8
    assert {(each["engine"], each["why"]) for each in data["absent"]} == {("custom", "the group has none")}


def test_schema_is_strict() -> None:
    data = record.to_json(on_cpu((2,)), [measured()])
    jsonschema.validate(data, SCHEMA)
    data["results"][0]["more"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, SCHEMA)


def test_schema_knows_every_engine_and_type() -> None:
    assert SCHEMA["$defs"]["engine"]["enum"] == list(ENGINES)
    assert SCHEMA["$defs"]["dtype"]["enum"] == list(ITEM_BYTES)


def test_figures_are_kept_to_six_digits() -> None:
    group, _, backend, copy = record.to_json(SETTING, [measured()])["results"]
    assert (group["by"], group["calls"], group["time_us"], group["quartiles_us"]) == (
        "pynccl",
        4,
        220.201,
        [214.958, 225.444],
    )
    assert backend["times_as_fast_as_backend"] == 1.0
    assert (copy["bus_gbs"], copy["times_as_fast_as_backend"], copy["times_as_long_as_copy"]) == (None, None, 1.0)


def test_file_is_replaced_at_once(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text("old")
    console.write(file, "new")
    console.write(tmp_path / "plot.png", b"\x89")
    assert file.read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "plot.png"]


def test_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        console.write(tmp_path / "nowhere" / "bench.json", "new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        console.write(tmp_path / "folder", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
