"""The model of what SGLang selects in a world of plugins, and the plugins that it is made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sglang_conformance.suite.aids import worlds
from sglang_conformance.suite.aids.worlds import Installed, Taken, World, taken


def plugin(name: str, behaviour: Any = "active") -> Installed:
    return Installed(name, behaviour, f"{name}.Platform")


@pytest.mark.parametrize(
    ("plugins", "platform", "allowed", "expected"),
    [
        ((), None, None, Taken("built-in")),
        ((), "alpha", None, Taken("error", "RuntimeError")),
        ((plugin("alpha"),), None, None, Taken("class", "alpha.Platform")),
        ((plugin("alpha"), plugin("beta")), None, None, Taken("error", "RuntimeError")),
        ((plugin("alpha"), plugin("beta")), "beta", None, Taken("class", "beta.Platform")),
        ((plugin("alpha"), plugin("beta")), "", "beta", Taken("class", "beta.Platform")),
        ((plugin("alpha"), plugin("beta")), None, "beta , nobody", Taken("class", "beta.Platform")),
        ((plugin("alpha"),), None, "nobody", Taken("built-in")),
        ((plugin("alpha"),), "alpha", "nobody", Taken("class", "alpha.Platform")),
        ((plugin("alpha", "absent"),), None, None, Taken("built-in")),
        ((plugin("alpha", "absent"),), "alpha", None, Taken("error", "RuntimeError")),
        ((plugin("alpha", "raises"), plugin("beta")), None, None, Taken("class", "beta.Platform")),
        ((plugin("alpha", "raises"),), "alpha", None, Taken("error", "ValueError")),
        ((plugin("alpha", "no import"),), None, None, Taken("built-in")),
        ((plugin("alpha", "no import"),), "alpha", None, Taken("error", "ModuleNotFoundError")),
    ],
)
def test_model_of_the_selection_follows_the_documented_rules(
    plugins: tuple[Installed, ...], platform: str | None, allowed: str | None, expected: Taken
) -> None:
    assert taken(World(plugins, platform, allowed)) == expected


def test_synthetic_plugins_are_installed_around_the_one_under_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["/standing"])
    worlds.install([plugin("alpha"), plugin("mine"), plugin("beta")], tmp_path, "some.group", own="mine")
    assert sys.path == [str(tmp_path / "alpha"), "/standing", str(tmp_path / "beta")]
    metadata = tmp_path / "alpha" / "conformance_alpha-1.0.dist-info" / "entry_points.txt"
    assert metadata.read_text() == "[some.group]\nalpha = conformance_alpha:activate\n"


@pytest.mark.parametrize("behaviour", ["active", "absent", "raises", "no import", "no class", "wrong base"])
def test_synthetic_plugin_behaves_as_its_name_says(
    behaviour: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    worlds.install([plugin("alpha", behaviour)], tmp_path, "some.group")
    source = (tmp_path / "alpha" / "conformance_alpha.py").read_text()
    interface = ModuleType("sglang.srt.platforms.interface")
    interface.SRTPlatform = object  # type: ignore[attr-defined]
    for name in ("sglang", "sglang.srt", "sglang.srt.platforms"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    space: dict[str, Any] = {"__name__": "conformance_alpha"}

    def activate() -> Any:
        exec(compile(source, "conformance_alpha.py", "exec"), space)
        return space["activate"]()

    expected = {
        "active": "conformance_alpha.Platform",
        "absent": None,
        "no class": "conformance_alpha.Missing",
        "wrong base": "decimal.Decimal",
    }
    if behaviour in expected:
        assert json.dumps(activate()) == json.dumps(expected[behaviour])
        assert "Missing" not in space
    else:
        with pytest.raises(ValueError if behaviour == "raises" else ModuleNotFoundError):
            activate()
