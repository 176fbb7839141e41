"""Targets of hooks in modules that do not import here are told from the release's text: there, or gone, or other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sglang_conformance.suite import expect
from sglang_conformance.suite.hooking import fitness, indexed
from sglang_conformance.suite.hooking.plugin import Missing, Registration

RELEASE = "0.5.18"
SAMPLER = "sglang.srt.layers.sampler"


@pytest.fixture(autouse=True)
def sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SGLang whose sampler wants a package that is not here."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "sglang"]:
        monkeypatch.delitem(sys.modules, name)
    file = tmp_path.joinpath(*SAMPLER.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True)
    file.write_text("import absent_package")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "sglang"]:
        del sys.modules[name]


def hook(*args: Any, **kwargs: Any) -> None:
    """Takes whatever there is."""


def before_forward(sampler: Any, logits_output: Any) -> None:
    """Takes less than the method is given."""


def on(name: str, kind: str = "BEFORE", function: Any = hook) -> list[Registration]:
    return [Registration(f"{SAMPLER}.{name}" if name else SAMPLER, kind, function)]


@pytest.mark.parametrize("name", ["Sampler.forward", "Sampler.__init__"])
def test_target_that_the_text_has_is_there(name: str) -> None:
    noted = fitness.need_targets(on(name), cause="", release=RELEASE)
    assert noted.startswith(f"targets told from SGLang's text alone: {SAMPLER}.{name} (")
    assert "absent_package" in noted


def test_target_that_the_text_lacks_is_the_plugins_mistake() -> None:
    with pytest.raises(expect.Violation, match=r"SGLang 0\.5\.18 has no sglang\.srt\.layers\.sampler\.Gone"):
        fitness.need_targets(on("Gone"), cause="", release=RELEASE)


def test_member_that_may_come_from_outside_is_not_judged() -> None:
    with pytest.raises(expect.NotCovered, match="could not be judged"):
        fitness.need_targets(on("Sampler.gone"), cause="", release=RELEASE)


def test_class_takes_no_hook_but_replace() -> None:
    with pytest.raises(expect.Violation, match="takes only REPLACE"):
        fitness.need_targets(on("Sampler"), cause="", release=RELEASE)
    assert fitness.need_targets(on("Sampler", "REPLACE", type("Sampler", (), {})), cause="", release=RELEASE)


@pytest.mark.parametrize("release", ["", "9.9.9"])
def test_nothing_is_told_without_the_text(release: str) -> None:
    with pytest.raises(expect.NotCovered, match="could not be judged"):
        fitness.need_targets(on("Gone"), cause="", release=release)


def test_hook_that_does_not_fit_is_told_with_the_signature() -> None:
    with pytest.raises(expect.Violation) as caught:
        fitness.need_fit(on("Sampler.forward", function=before_forward), least=True, release=RELEASE)
    assert "return_logprob" in caught.value.finding["expected"]
    assert caught.value.finding["cause"].startswith("the target is forward(self, logits_output, ")
    assert "test_suite_hook_targets.py" in caught.value.finding["where"]


def test_hook_that_fits_is_right() -> None:
    for least in (True, False):
        fitness.need_fit(on("Sampler.forward"), least=least, release=RELEASE)


def test_hook_on_what_cannot_be_told_is_left_alone() -> None:
    fitness.need_fit(on("Gone", function=before_forward), least=True, release=RELEASE)
    fitness.need_fit(on("Sampler.forward", function=before_forward), least=True, release="")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (
            "(self, a, /, b: int = 0, *rest, c, d: str = 'x', **more) -> int",
            "(self, a, /, b=0, *rest, c, d='x', **more)",
        ),
        ("()", "()"),
        ("(cls, *, only: dict[str, int])", "(cls, *, only)"),
    ],
)
def test_signature_is_that_of_the_text(text: str, meant: str) -> None:
    assert str(indexed.signature_of(text)) == meant


def test_what_no_release_has_is_missing() -> None:
    with pytest.raises(Missing):
        indexed.known("sglang.srt.layers.sampler.gone_for_good", RELEASE)
    assert indexed.known("torch.nn.Linear", RELEASE) is None
