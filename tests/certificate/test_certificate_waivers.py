from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from sglang_conformance.certificate.waivers import Waiver, WaiverError, Waivers, load

TODAY = date(2026, 6, 1)
FIELDS = {
    "requirement": '"MEM-001"',
    "platform": '"mlu"',
    "owner": '"memory team"',
    "link": '"https://vendor.example/17"',
    "expires": "2026-12-31",
    "reason": '"driver settles late"',
}


def table(**changes: str | None) -> str:
    fields = {**FIELDS, **changes}
    return "[[waiver]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)


def loaded(folder: Path, text: str) -> Waivers:
    path = folder / "waivers.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, today=TODAY, known={"MEM-001", "MEM-002", "MEM-003"})


def test_a_waiver_is_read_whole(tmp_path: Path) -> None:
    waivers = loaded(tmp_path, table())
    expected = Waiver(
        "MEM-001", "mlu", "memory team", "https://vendor.example/17", date(2026, 12, 31), "driver settles late"
    )
    assert waivers == Waivers(valid=(expected,), expired=())
    assert str(expected) == "driver settles late (memory team, until 2026-12-31, https://vendor.example/17)"


def test_an_expired_waiver_is_kept_apart_and_the_last_day_still_counts(tmp_path: Path) -> None:
    text = (
        table(expires="2026-05-31")
        + table(requirement='"MEM-002"', expires="2026-06-01")
        + table(requirement='"MEM-003"')
    )
    waivers = loaded(tmp_path, text)
    assert [w.requirement for w in waivers.valid] == ["MEM-002", "MEM-003"]
    assert [w.requirement for w in waivers.expired] == ["MEM-001"]


def test_an_empty_file_waives_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path, "# nothing yet\n") == Waivers()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (table(requirement='"MEM-999"'), "waiver 1: there is no requirement MEM-999"),
        (table() + table(reason=None), "waiver 2: reason missing; a waiver reads "),
        (table(until="1"), "waiver 1: unknown field until"),
        (table(expires='"2026-12-31"'), "waiver 1: expires must be a date without quotes, as 2026-12-31"),
        (table(expires="2026-12-31T00:00:00"), "waiver 1: expires must be a date without quotes, as 2026-12-31"),
        (table(owner='" "'), "waiver 1: owner must be a text, and not empty"),
        (table(requirement="7"), "waiver 1: requirement must be a text, and not empty"),
        (table(link='"ticket 17"'), "waiver 1: link must be an http or https address"),
        (table() + table(), "MEM-001 is waived twice for mlu"),
        ("waivers = []", "may hold nothing but [[waiver]] tables"),
        ("waiver = 3", "may hold nothing but [[waiver]] tables"),
        ("[[waiver", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(WaiverError) as raised:
        loaded(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path / 'waivers.toml'}: {error}")
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WaiverError, match="there is no such waivers file"):
        load(tmp_path / "none.toml", today=TODAY, known=())
    with pytest.raises(WaiverError, match="is a folder"):
        load(tmp_path, today=TODAY, known=())


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(WaiverError, match="cannot be read as TOML"):
        load(tmp_path / "w.toml", today=TODAY, known=())
