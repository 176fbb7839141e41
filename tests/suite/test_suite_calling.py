"""How SGLang calls a platform's members: the table that says so fits the contracts."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.contract.model import Contract
from sglang_conformance.suite.aids.calling import FORMS, Form, forms_in_core, forms_of
from sglang_conformance.suite.aids.unread import unread

CONTRACTS = [tables.load(release) for release in tables.releases()]


def test_every_form_is_a_call_of_a_member_that_core_makes() -> None:
    called = {m.name: m for m in tables.load(tables.newest()).called()}
    assert FORMS.keys() <= called.keys()
    assert [name for name, forms in FORMS.items() if tuple(forms_in_core(called[name])) != forms] == []


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.release)
def test_other_methods_are_called_as_they_are_declared(contract: Contract) -> None:
    for member in contract.called():
        if member.signature and member.name not in FORMS:
            assert set(forms_in_core(member)) == set(forms_of(member))


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
