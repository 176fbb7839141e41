"""The plot: drawn without a screen, and refused in one line where it cannot be."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench.taken import SETTING, measured
from sglang_conformance.bench import plot
from sglang_conformance.bench.model import ENGINES
from sglang_conformance.errors import OptionError

CASES = [
    measured(1 << power, ranks, dtype) for ranks in (2, 4) for dtype in ("float32", "bfloat16") for power in (10, 16)
]


def test_plot_names_groups_engines_and_platform() -> None:
    pytest.importorskip("matplotlib")
    text = plot.draw(SETTING, CASES, ".svg").decode()
    ElementTree.fromstring(text)
    comments = [line.strip() for line in text.splitlines() if line.strip().startswith("<!-- ")]
    said = "\n".join(comments)
    assert "2 ranks, float32" in said
    assert "4 ranks, bfloat16" in said
    assert "all-reduce on sim, SGLang 0.5.23 (reference)" in said
    assert "64 KiB" in said
    for engine in ("group", "pynccl", "backend", "copy"):
        assert f"<!-- {engine} -->" in comments
    assert "<!-- custom -->" not in comments


def test_png_is_one() -> None:
    pytest.importorskip("matplotlib")
    assert plot.draw(SETTING, CASES[:1], ".png").startswith(b"\x89PNG")


def test_same_figures_give_the_same_drawing() -> None:
    pytest.importorskip("matplotlib")
    assert plot.draw(SETTING, CASES[:2], ".svg") == plot.draw(SETTING, CASES[:2], ".svg")


def test_every_engine_has_a_look_of_its_own() -> None:
    assert list(plot._STYLES) == list(ENGINES)
    assert len({style["color"] for style in plot._STYLES.values()}) == len(ENGINES)


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"pip install 'sglang-conformance\[plot\]'") as refused:
        plot.require(Path("plot.svg"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["plot", "plot.pdf", "svg"])
def test_format_is_that_of_the_name(name: str) -> None:
    with pytest.raises(OptionError, match=r"end it in \.svg or \.png"):
        plot.require(Path(name))
