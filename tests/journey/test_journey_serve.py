from __future__ import annotations

import sys
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import nn

from sglang_conformance.journey import serve
from sglang_conformance.journey.leg import Leg
from sglang_conformance.journey.watch import Token, Watch

KERNELS = "def doubled(self, x):\n    return 2 * x\n\n\nclass Pool(dict):\n    pass\n"


class Operator(nn.Module):
    _forward_method: Any = None

    def forward(self, x: torch.Tensor) -> Any:
        return x if self._forward_method is None else self._forward_method(x)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Operator(), Operator()

    def forward(self, x: torch.Tensor) -> Any:
        given = self.two(self.one(x))
        return given, given + 1


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "vendors_kernels.py").write_text(KERNELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    yield importlib.import_module("vendors_kernels")
    del sys.modules["vendors_kernels"]


def test_usual_requests_come_together_between_and_after() -> None:
    usual = serve.standard(Leg("llama"), new=8)
    assert [request.arrives for request in usual] == [0, 0, 0, 0, 4, 10]
    assert {request.new for request in usual} == {8}
    assert [request.prompt for request in usual] == list(Leg("llama").checkpoint.prompts)


def test_line_of_a_class_is_the_vendors_first(kernels: Any, tmp_path: Path) -> None:
    derived = type("Derived", (kernels.Pool,), {"__module__": "torch.nn"})
    assert serve._line(kernels.Pool) == f"{tmp_path / 'vendors_kernels.py'}:5"
    assert serve._line(derived) == f"{tmp_path / 'vendors_kernels.py'}:5"
    assert serve._line(nn.Linear) == ""
    assert serve._line(int) == ""


def test_watch_sees_every_output_by_its_module_and_by_whom(kernels: Any, tmp_path: Path) -> None:
    pair = Pair()
    pair.two._forward_method = MethodType(kernels.doubled, pair.two)
    model = nn.ModuleDict({"pair": pair})
    watch, rows = Watch(model), [Token("a", 0), Token("a", 1)]
    with watch.on(), watch.one("extend", rows, rows[1:], {"a": [16, 17]}):
        model["pair"](torch.ones(2, 3))
    model["pair"](torch.ones(2, 3))
    (only,) = watch.passes
    assert (only.number, only.mode, only.rows, dict(only.slots)) == (0, "extend", tuple(rows), {"a": (16, 17)})
    seen = [(each.module, each.output, each.value[0, 0], ".".join(each.by.split(".")[-2:])) for each in only.seen]
    assert seen == [
        ("pair.one", "", 1.0, "Operator.forward"),
        ("pair.two", "", 2.0, "vendors_kernels.doubled"),
        ("pair", "", 2.0, "Pair.forward"),
        ("pair", "1", 3.0, "Pair.forward"),
    ]
    by_vendor = next(each for each in only.seen if each.module == "pair.two")
    assert (by_vendor.by, by_vendor.where) == ("vendors_kernels.doubled", f"{tmp_path / 'vendors_kernels.py'}:1")


def test_what_was_seen_is_kept_where_a_pass_fails() -> None:
    model = nn.ModuleDict({"one": Operator()})
    watch = Watch(model)

    def failing() -> None:
        with watch.on(), watch.one("extend", [Token("a", 0)], [], {}):
            model["one"](torch.ones(1, 2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert [each.module for each in watch.passes[0].seen] == ["one"]


def test_rows_of_another_number_are_not_taken_down() -> None:
    model = nn.ModuleDict({"one": Operator()})
    watch = Watch(model)
    with watch.on(), watch.one("decode", [Token("a", 3), Token("b", 5)], [], {}):
        model["one"](torch.ones(3, 2))
    assert watch.passes[0].seen == ()
