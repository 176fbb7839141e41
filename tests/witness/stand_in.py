"""A pytest plugin in whose process the reference is SGLang, for SGLang's own tests (see ``test_witness.py``).

Besides ``sglang.srt`` such tests import what registers them with SGLang's CI, and its TestCase: these are stood in for.
What reaches for a part of SGLang that the reference does not cover is skipped, by the name of that part.
"""

from __future__ import annotations

import os
import sys
import unittest
from collections.abc import Callable, Generator, Iterator
from types import ModuleType
from typing import Any

import pytest

import sglang_reference
from sglang_conformance.contract import tables

RELEASE = "SGLANG_WITNESS_RELEASE"
"""The variable that names the release which the reference follows."""


class _NotCovered(ModuleType):
    """A module that can be imported, and has nothing that the reference covers."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise sglang_reference.NotCovered(
            f"the SGLang reference does not cover {self.__name__}.{name}", name=f"{self.__name__}.{name}"
        )


def pytest_configure() -> None:
    """Install the reference before any test is imported."""
    sglang_reference.install(tables.load(os.environ[RELEASE]).to_json())
    for module in _modules():
        sys.modules[module.__name__] = module


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Skip a test that meets the reference's refusal."""
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, sglang_reference.NotCovered):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1], f"not covered: {error.name}")
    return report


def _modules() -> Iterator[ModuleType]:
    for name in ("sglang.test", "sglang.test.ci"):
        package = ModuleType(name)
        package.__path__ = []
        yield package
    register = ModuleType("sglang.test.ci.ci_register")
    vars(register)["__getattr__"] = _registers_nothing
    yield register
    cases = ModuleType("sglang.test.test_utils")
    vars(cases)["CustomTestCase"] = unittest.TestCase
    yield cases
    stubs = _NotCovered("sglang._platform_stubs")
    vars(sys.modules.get("sglang") or __import__("sglang"))["_platform_stubs"] = stubs
    yield stubs


def _registers_nothing(name: str) -> Callable[..., None]:
    if not name.startswith("register_"):
        raise AttributeError(name)
    return lambda *args, **kwargs: None
