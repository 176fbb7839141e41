"""Every name that is sent to a probe or a rank names a function there."""

from __future__ import annotations

import inspect
from pkgutil import resolve_name

import pytest

from sglang_conformance.suite import jobs

NAMES = {name: path for name, path in vars(jobs).items() if name.isupper() and not name.startswith("_")}


@pytest.mark.parametrize("name", NAMES)
def test_name_is_a_functions(name: str) -> None:
    assert inspect.isfunction(resolve_name(NAMES[name]))
