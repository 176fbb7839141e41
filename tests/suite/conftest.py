"""Runs the tests that have the simulated device, by the fixture of that name, each in a forked child."""

from __future__ import annotations

import pytest

import forked


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return forked.call(pyfuncitem) if "simulated_device" in pyfuncitem.fixturenames else None
