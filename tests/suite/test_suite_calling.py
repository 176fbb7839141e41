"""How SGLang calls a platform's members: the table that says so fits the contracts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.contract.model import CallSite, Shape
from sglang_conformance.suite.aids.calling import Form, forms_in_core, forms_of
from sglang_conformance.suite.aids.unread import unread

# The calls in core of the members with optional parameters, or that are called by name, as they were read there. Alike
# in all releases from 0.5.11 to 0.5.23 that call them (srt/utils/common.py, weight_cache/, speculative/).
READ: Mapping[str, list[Form]] = {
    "get_device_total_memory": [Form(), Form(1)],
    "get_current_memory_usage": [Form()],
    "get_device_capability": [Form()],
    "get_device": [Form(1)],
    "get_device_uuid": [Form(1)],
    "get_compile_backend": [Form(1)],
    "is_pin_memory_available": [Form(1)],
    "get_speculative_worker_cls": [Form(named=("algorithm",))],
    "get_speculative_graph_runner_cls": [Form(named=("algorithm", "phase"))],
}


@pytest.mark.parametrize("release", tables.releases())
def test_calls_are_those_that_core_makes(release: str) -> None:
    for member in tables.load(release).called():
        if member.signature:
            assert list(forms_in_core(member)) == READ.get(member.name, list(dict.fromkeys(forms_of(member))))


def test_optional_parameter_that_core_does_not_give_need_not_be_taken() -> None:
    member = tables.load("0.5.23").member("empty_cache")
    assert member is not None
    grown = replace(member, signature="(self, device=None) -> None")
    assert list(forms_in_core(grown)) == [Form()]
    assert list(forms_in_core(replace(grown, calls=()))) == [Form(), Form(1)]
    starred = CallSite("srt/utils/common.py", 1, Shape(1, stars=True))
    assert list(forms_in_core(replace(grown, calls=(starred,)))) == [Form(), Form(1)]
    assert list(forms_in_core(replace(grown, calls=(starred, *member.calls)))) == [Form()]


def test_forms_of_a_signature() -> None:
    member = tables.load("0.5.23").member("get_kv_pool_cls")
    assert member is not None
    assert forms_of(member) == (Form(named=("kind",)), Form(named=("kind",)))


def test_form_tells_why_it_does_not_fit() -> None:
    def takes_none() -> None:
        return None

    def takes_all(*args: Any, **kwargs: Any) -> None:
        return None

    assert "too many" in Form(1).misfit(inspect.signature(takes_none))
    assert Form(3, ("x",)).misfit(inspect.signature(takes_all)) == ""
    assert Form(1, ("x",)).spell("f") == "platform.f(..., x=...)"


class Base:
    def init_backend(self) -> None:
        return None


Base.__module__ = "sglang.srt.platforms.interface"


class Helper(Base):
    def get_full_graph_backend(self) -> None:
        return None

    def use(self) -> None:
        self.get_full_graph_backend()


class Circular(Base):
    itself: Any = None


Circular.itself = Circular


class Misspelt(Base):
    def initialise_backend(self) -> None:
        return None

    def get_device_serial(self) -> str:
        return ""


class Foreign(Base):
    def get_attn_backend_cls(self) -> str:
        return ""


class OfBothEngines:
    def get_attn_backend_cls(self) -> str:
        return ""


class Shared(OfBothEngines, Base):
    pass


class InTime(Base):
    def get_dsa_kv_pool_cls(self) -> None:
        return None

    def get_nsa_kv_pool_cls(self) -> None:
        return None


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        (Helper(), []),
        (Circular(), []),
        (Misspelt(), [("initialise_backend", "init_backend")]),
        (Foreign(), [("get_attn_backend_cls", "get_default_attention_backend")]),
        (Shared(), []),
        (InTime(), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unread_members_are_the_misspelt_and_the_foreign(platform: Any, expected: list[tuple[str, str]]) -> None:
    found = unread(platform, tables.load("0.5.23"), {"get_dsa_kv_pool_cls"})
    assert [(name, instead) for _, name, instead in found] == expected
