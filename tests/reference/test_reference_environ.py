from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def envs(install: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    install()
    # Registered here, so that what a test sets through the fields is undone.
    for name in ("SGLANG_PLATFORM", "SGLANG_ZBAL_LOCAL_MEM_SIZE", "SGLANG_USE_CPU_ENGINE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return module("sglang.srt.environ").envs


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_every_variable_of_the_table_has_its_default(install: Any, module: Callable[[str], Any], release: str) -> None:
    table = install(release)
    envs = module("sglang.srt.environ").envs
    assert {v["name"]: getattr(envs, v["name"]).get() for v in table["environment"]} == {
        v["name"]: v["default"] for v in table["environment"]
    }


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SGLANG_PLATFORM", " mlu", " mlu"),
        ("SGLANG_PLATFORM", "None", "None"),
        ("SGLANG_ZBAL_LOCAL_MEM_SIZE", "-3", -3),
        ("SGLANG_USE_CPU_ENGINE", "YES", True),
        ("SGLANG_USE_CPU_ENGINE", "n", False),
    ],
)
def test_texts_are_parsed_at_each_read(
    envs: Any, monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any
) -> None:
    monkeypatch.setenv(name, text)
    assert getattr(envs, name).get() == value


@pytest.mark.parametrize(("name", "default"), [("SGLANG_ZBAL_LOCAL_MEM_SIZE", 0), ("SGLANG_USE_CPU_ENGINE", False)])
def test_invalid_text_warns_and_gives_the_default(
    envs: Any, monkeypatch: pytest.MonkeyPatch, name: str, default: Any
) -> None:
    monkeypatch.setenv(name, "many")
    with pytest.warns(UserWarning, match=f"{name}.*'many'"):
        assert getattr(envs, name).get() == default
    monkeypatch.setenv(name, "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(envs, name).get() == 1


def test_set_and_clear_work_on_the_environment(envs: Any) -> None:
    field = envs.SGLANG_ZBAL_LOCAL_MEM_SIZE
    assert not field.is_set()
    field.set(7)
    assert (field.get(), field.is_set(), os.environ["SGLANG_ZBAL_LOCAL_MEM_SIZE"]) == (7, True, "7")
    field.set(None)
    assert (field.get(), field.is_set()) == (None, True)
    field.clear()
    assert (field.get(), field.is_set()) == (0, False)
    field.clear()


def test_override_restores_what_was_also_after_an_exception(envs: Any) -> None:
    field = envs.SGLANG_PLATFORM
    with field.override("mlu"):
        assert field.get() == "mlu"
    assert not field.is_set()
    field.set("gcu")
    with field.override(None):
        assert field.get() is None
    with pytest.raises(OSError), field.override("mlu"):
        raise OSError
    assert field.get() == "gcu"
    field.set(None)
    with field.override("mlu"):
        assert field.get() == "mlu"
    assert field.get() is None


def test_a_field_has_no_truth(envs: Any) -> None:
    for ask in (bool, len):
        with pytest.raises(RuntimeError, match=r"envs\.SGLANG_PLATFORM\.get\(\)"):
            ask(envs.SGLANG_PLATFORM)


def test_a_name_that_is_no_variable_is_an_attribute_error(envs: Any) -> None:
    assert not hasattr(envs, "no_such_field")
