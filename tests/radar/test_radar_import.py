"""What only running a plugin tells: it is imported in probes, and nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sglang_conformance.radar.importing import look
from sglang_conformance.radar.opening import open_plugin
from sglang_conformance.radar.reading.code import Code
from sglang_conformance.radar.reading.seen import Live, LiveHook
from sglang_conformance.radar.survey import judge

from .made import NEW, OLD, PYPROJECT, contract, found, history, platform, write

COMPUTED = {
    "vendor/__init__.py": "def activate():\n    return ':'.join(['vendor.platform', 'A'])[:0] or named()\n"
    "def named():\n    import base64\n    text = b'dmVuZG9yLnBsYXRmb3JtLlZlbmRvclBsYXRmb3Jt'\n"
    "    return base64.b64decode(text).decode()",
    "vendor/platform.py": platform("def is_pin_memory_available(self):\n    return True")
    + "class Another(VendorPlatform): ...\n",
    "vendor/hooks.py": """
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType
    def register():
        for name in sorted(globals()):
            if name.startswith("on_"):
                HookRegistry.register("sglang.srt.core." + name[3:], globals()[name], HookType.AROUND)
    def on_goes(original, x): ...
    def on_grows(original, x): ...
    """,
}


FAILED = (
    "importing it for 0.5.23, failing = vendor.failing:register: OSError: no card",
    "importing it for 0.5.23, absent = vendor.hooks:absent: AttributeError: module 'vendor.hooks' has no attribute"
    " 'absent'",
)


def test_class_and_hooks_are_those_that_running_it_gives(tmp_path: Path) -> None:
    failing = PYPROJECT + 'failing = "vendor.failing:register"\nabsent = "vendor.hooks:absent"\n'
    files = {**COMPUTED, "vendor/failing.py": "def register():\n    raise OSError('no card')"}
    plugin = open_plugin(str(write(tmp_path, files, failing)))
    live = look(plugin, [contract(NEW)])
    hooks = tuple(LiveHook(f"sglang.srt.core.{n}", "AROUND", "vendor.hooks", f"on_{n}") for n in ("goes", "grows"))
    assert live == {NEW: Live(("vendor.platform.VendorPlatform",), hooks, FAILED)}
    assert not {"vendor", "sglang", "vendor.hooks"} & set(sys.modules)


def test_plugin_that_hangs_is_told(tmp_path: Path) -> None:
    hanging = write(tmp_path, {"vendor/__init__.py": "import time\ndef activate():\n    time.sleep(600)"})
    (live,) = look(open_plugin(str(hanging)), [contract(NEW)], deadline=3).values()
    assert len(live.failed) == 1
    assert live.failed[0].startswith("importing it for 0.5.23 failed: ")
    assert (live.classes, live.hooks) == ((), ())


@pytest.mark.parametrize("release", [OLD, NEW])
def test_what_was_told_is_judged_like_what_was_read(tmp_path: Path, release: str) -> None:
    folder = write(tmp_path, COMPUTED)
    plugin = open_plugin(str(folder))
    assert [f for f in found(folder, release) if f[0].startswith("hook")] == []
    hooks = tuple(LiveHook(f"sglang.srt.core.{n}", "AROUND", "vendor.hooks", f"on_{n}") for n in ("goes", "grows"))
    live = Live(("vendor.platform.VendorPlatform",), hooks)
    judged = judge(plugin, Code.of(plugin), history(), release, live)
    told = {(f.kind, f.severity.value, f.subject, str(f.place)) for f in judged.findings if f.kind != "reachable"}
    assert judged.not_judged == ()
    assert told == (
        set()
        if release == OLD
        else {
            ("hook target", "dies silently", "sglang.srt.core.goes", "vendor/hooks.py:7"),
            ("hook parameters", "breaks", "sglang.srt.core.grows", "vendor/hooks.py:8"),
            ("signature", "breaks", "is_pin_memory_available", "vendor/platform.py:11"),
        }
    )
