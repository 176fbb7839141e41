"""Runs each test of this folder in a forked child: they register the simulated device."""

from __future__ import annotations

import pytest

import forked


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    return forked.call(pyfuncitem)
