"""The recorder sees what the core asks of a platform, and the platform sees nothing of the recorder."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sglang_reference
from sglang_conformance.contract import tables
from sglang_conformance.journey import attaching, expected, recording
from sglang_conformance.journey.recording import Recorder
from sglang_conformance.journey.shown import raised, shown
from sglang_conformance.journey.trace import (
    BEFORE,
    END,
    FAILED,
    HOOKS,
    IMPORTED,
    PLUGINS,
    RESOLVED,
    Role,
    Trace,
    of_lines,
    read,
)

MEMBERS = frozenset({"get_device", "total", "label", "cached", "dynamic", "fixed", "made", "count"})

Start = Callable[..., Trace]


class Platform:
    """One of every way in which a class may have a method."""

    def __init__(self) -> None:
        self.fixed: Callable[[int], str] = lambda index: f"fixed {index}"
        self.said: list[Any] = []

    def get_device(self, index: int = 0) -> str:
        self.said.append(sys._getframe().f_code.co_name)
        return f"{self.label()}:{index}"

    def total(self) -> int:
        raise MemoryError("no such\ndevice")

    @classmethod
    def label(cls) -> str:
        return cls.__name__.lower()

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def cached(self) -> int:
        return 7

    @staticmethod
    def made() -> str:
        return "made"


class Heir(Platform):
    def get_device(self, index: int = 0) -> str:
        return super().get_device(index) + "!"


def calls(trace: Trace) -> list[str]:
    return [event.name for event in trace.of("call")]


def test_methods_of_every_kind_are_recorded_and_answer_as_before() -> None:
    platform, recorder = Platform(), Recorder(Role("worker", 1))
    with attaching.watched(platform, MEMBERS, recorder):
        assert platform.get_device(index=2) == "platform:2"
        line = sys._getframe().f_lineno - 1
        assert platform.cached() == 7
        assert platform.cached.cache_info().misses == 1
        assert platform.fixed(3) == "fixed 3"
        assert platform.made() == "made"
        with pytest.raises(MemoryError):
            platform.total()
    platform.get_device()
    trace = recorder.trace()
    assert calls(trace) == ["get_device", "label", "cached", "fixed", "made", "total"]
    first, nested, *_, last = trace.of("call")
    assert (str(first), first.result, first.error) == ("get_device(index=2)", "'platform:2'", "")
    assert first.by.path.endswith("test_journey_trace.py")
    assert first.by.line == line
    assert trace.nested(nested)
    assert nested.inside == first.number
    assert not trace.nested(first)
    assert (last.result, last.error) == ("", "MemoryError: no such device")


def test_the_vendors_code_sees_its_own_class_and_methods() -> None:
    platform, other = Heir(), Heir()
    recorder = Recorder(Role("worker", 0))
    names, function = set(vars(Heir)), Heir.get_device
    with attaching.watched(platform, MEMBERS, recorder):
        assert type(platform) is Heir
        assert Heir.get_device is function
        assert platform.get_device() == "heir:0!"
        assert platform.said == ["get_device"]
        assert platform.get_device == platform.get_device
        assert platform.get_device.__self__ is platform  # type: ignore[attr-defined]
        assert platform.get_device.__name__ == "get_device"
        assert not hasattr(platform, "absent")
        assert vars(platform).keys() == {"fixed", "said"}
        other.get_device()
    assert set(vars(Heir)) == names
    assert calls(recorder.trace()) == ["get_device", "label"]  # super()'s is part of it, another object's is none


def test_classes_that_guard_their_attributes_are_watched_all_the_same() -> None:
    class Guard(type):
        def __setattr__(cls, name: str, value: Any) -> None:
            raise AssertionError("a plugin's metaclass was asked")

    class Guarded(metaclass=Guard):
        __slots__ = ()
        asked: list[str] = []

        def __getattribute__(self, name: str) -> Any:
            Guarded.asked.append(name)
            return object.__getattribute__(self, name)

        def __getattr__(self, name: str) -> Any:
            if name == "absent":
                return "found"
            raise AttributeError(name)

        def __setattr__(self, name: str, value: Any) -> None:
            raise AssertionError("a plugin's __setattr__ was asked")

        def get_device(self) -> str:
            return "device"

    platform, recorder = Guarded(), Recorder(Role("launcher"))
    own = Guarded.__getattribute__
    with attaching.watched(platform, MEMBERS, recorder):
        assert platform.get_device() == "device"
        assert platform.absent == "found"
        assert Guarded.asked == ["get_device", "absent"]
    assert Guarded.__getattribute__ is own
    assert calls(recorder.trace()) == ["get_device"]


def test_methods_that_are_patched_later_are_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    platform, recorder = Platform(), Recorder(Role("launcher"))
    with attaching.watched(platform, MEMBERS, recorder):
        platform.get_device()
        monkeypatch.setattr(Platform, "get_device", lambda self, index=0: "patched")
        assert platform.get_device(1) == "patched"
    assert [e.result for e in recorder.trace().of("call", "get_device")] == ["'platform:0'", "'patched'"]


def test_a_class_that_takes_no_attributes_is_told() -> None:
    with pytest.raises(TypeError), attaching.watched(3, MEMBERS, Recorder(Role("launcher"))):
        pass


def test_what_is_shown_runs_no_code_of_the_vendor() -> None:
    class Loud(int):
        def __repr__(self) -> str:
            raise AssertionError("shown")

        def __str__(self) -> str:
            raise AssertionError("shown")

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert shown(Loud(3)) == "a Loud"
    assert shown([1, "two", (None,), Loud(1), 5]) == "[1, 'two', (None,), a Loud, …]"
    assert shown({"a": {"b": {}}}) == "{'a': {'b': {}}}"
    assert shown(Platform) == "class Platform"
    assert shown(Role("worker").__str__).endswith("Role.__str__()")
    assert len(shown("x" * 500)) < 70
    assert raised(Mute()) == "Mute"


def test_what_is_called_over_and_over_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "KEEP", 3)
    platform, recorder = Platform(), Recorder(Role("worker", 0))
    turns = iter(range(1, 11))

    def count() -> None:
        if next(turns) == 10:
            raise RuntimeError("the tenth")

    platform.count = count  # type: ignore[attr-defined]
    with attaching.watched(platform, MEMBERS, recorder):
        for _ in range(9):
            platform.count()  # type: ignore[attr-defined]
    trace = recorder.trace()
    assert len(calls(trace)) == 3
    assert [(tally.name, tally.times) for tally in trace.tallies] == [("count", 6)]
    with attaching.watched(platform, MEMBERS, recorder), pytest.raises(RuntimeError):
        platform.count()  # type: ignore[attr-defined]
    assert [event.error for event in recorder.trace().of("call") if event.error] == ["RuntimeError: the tenth"]


def test_a_process_that_ends_at_once_leaves_the_call_it_was_in(tmp_path: Path) -> None:
    code = f"""
        import os, pathlib
        from sglang_conformance.journey import attaching
        from sglang_conformance.journey.recording import Recorder
        from sglang_conformance.journey.trace import Role

        class Platform:
            def get_device(self):
                os._exit(0)

        recorder = Recorder(Role("worker", 3), pathlib.Path({str(tmp_path)!r}))
        recorder.mark("before")
        with attaching.watched(Platform(), {{"get_device"}}, recorder):
            pass
        platform = Platform()
        with attaching.watched(platform, {{"get_device"}}, recorder):
            platform.get_device()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
    (trace,) = read(tmp_path)
    assert str(trace.role) == "worker 3"
    assert not trace.ended
    before, call = trace.events
    assert before.ended
    assert before.at > 0
    assert (call.name, call.ended, call.seconds) == ("get_device", False, None)
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_a_fork_writes_nothing_into_the_trace_of_its_parent(tmp_path: Path) -> None:
    code = f"""
        import os, pathlib
        from sglang_conformance.journey.recording import Recorder
        from sglang_conformance.journey.trace import Role

        recorder = Recorder(Role("launcher"), pathlib.Path({str(tmp_path)!r}))
        recorder.mark("mine")
        child = os.fork()
        recorder.mark("after")
        if child:
            os.waitpid(child, 0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
    (trace,) = read(tmp_path)
    assert [event.name for event in trace.events] == ["mine", "after"]


def test_what_ends_a_process_is_told_with_the_line_of_the_vendor(tmp_path: Path) -> None:
    recorder = Recorder(Role("worker", 0), tmp_path)
    vendor: dict[str, Any] = {"__name__": "acme.deep"}
    exec("def fail():\n    return [][3]\n", vendor)
    core: dict[str, Any] = {"__name__": "sglang.srt.utils.common", "fail": vendor["fail"]}
    exec("def go():\n    fail()\n", core)
    with pytest.raises(IndexError) as caught:
        core["go"]()
    recorder.failed(caught.value)
    (event,) = read(tmp_path)[0].of("moment", FAILED)
    assert (str(event.by), event.by.origin, event.error) == (
        "acme/deep.py:2",
        "vendor",
        "IndexError: list index out of range",
    )


def test_lines_that_were_cut_short_are_left_out() -> None:
    head = json.dumps({"process": {"role": "launcher", "pid": 1, "began": 0.0, "platform": "", "blind": ""}})
    assert of_lines([head, '{"begins": {"num']).events == ()
    with pytest.raises(ValueError, match="what process"):
        of_lines(["{}"])


def test_roles_read_back_and_nothing_else_does() -> None:
    for role in (Role("launcher"), Role("worker", 12)):
        assert Role.parse(str(role)) == role
    with pytest.raises(ValueError, match="no role"):
        Role.parse("boss 1")


HASTY = """
from sglang.srt.platforms import current_platform

DEVICE = current_platform.get_device(0)

def register():
    pass
"""

VENDOR = """
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import SRTPlatform
from sglang.srt.plugins.hook_registry import HookRegistry, HookType
{early}

class Platform(SRTPlatform):
    _enum = PlatformEnum.OOT
    device_name = device_type = "acme"

    def get_torch_distributed_backend_str(self):
        return "acme-backend"

    def get_device_total_memory(self, device_id=0):
        self.get_device(device_id)
        return 1024

    def get_device(self, *args, **kwargs):
        return "acme:0"

def watch(result, *args, **kwargs):
    return result

def register():
    HookRegistry.register("sglang.srt.distributed.parallel_state.get_default_distributed_backend", watch)
    HookRegistry.register("sglang.srt.nowhere.to_be_found", watch)

def activate():
    return __name__ + ".Platform"
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start the reference with a vendor's plugin, recorded as a worker; ``early`` is code of the vendor's module."""

    def started(release: str, early: str = "", *, hooks: str = "acme_plugin", late: bool = False) -> Trace:
        info = tmp_path / "acme-1.0.dist-info"
        info.mkdir()
        (tmp_path / "acme_plugin.py").write_text(VENDOR.format(early=early))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        points = {"platforms": "acme_plugin:activate", "plugins": f"{hooks}:register"}
        lines = [f"[sglang.srt.{group}]\nacme = {target}\n" for group, target in points.items()]
        (info / "entry_points.txt").write_text("".join(lines))
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in os.environ if name.startswith("SGLANG_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("SGLANG_PLATFORM", "acme")
        contract = tables.load(release)
        finders = list(sys.meta_path)
        sglang_reference.install(contract.to_json(), lambda: tables.load_server_args_before(release).to_json())
        if late:
            drive()
        attached = attaching.start(Role("worker", 0), contract)
        try:
            drive()
            attached.recorder.mark(END)
            return attached.recorder.trace()
        finally:
            attached.detach()
            kind = type(sys.modules["sglang.srt.platforms"]._current_platform)
            assert "__getattribute__" not in vars(kind)
            sglang_reference.uninstall()
            assert sys.meta_path == finders

    yield started
    for name in ("acme_plugin", "acme_hooks"):
        sys.modules.pop(name, None)


def drive() -> None:
    from sglang.srt import platforms, plugins
    from sglang.srt.distributed import parallel_state

    plugins.load_plugins()
    plugins.load_plugins()
    platforms.current_platform.get_device_total_memory(0)
    parallel_state.get_default_distributed_backend("acme")


@pytest.mark.parametrize("release", ["0.5.14", "0.5.23"])
def test_a_start_is_recorded_from_the_plugins_to_the_end(acme: Start, release: str) -> None:
    trace = acme(release)
    assert trace.platform == "acme_plugin.Platform"
    assert not trace.blind
    moments = [event.name for event in trace.of("moment")]
    assert moments.count(PLUGINS) == 1
    assert {PLUGINS, HOOKS, RESOLVED, END} <= set(moments)
    assert moments[-1] == END
    total = trace.first("call", "get_device_total_memory")
    inner = trace.first("call", "get_device")
    backend = trace.first("call", "get_torch_distributed_backend_str")
    assert total
    assert inner
    assert backend
    assert (str(total), total.result, total.by.origin) == ("get_device_total_memory(0)", "1024", "vendor")
    assert trace.nested(inner)
    assert (inner.by.path, inner.by.origin) == ("acme_plugin.py", "vendor")
    assert (backend.by.path, backend.by.origin) == ("srt/distributed/parallel_state.py", "core")
    assert not trace.nested(backend)
    applied = {event.name.rpartition(".")[2]: event for event in trace.of("applied")}
    assert applied["get_default_distributed_backend"].arguments == ("AFTER acme_plugin.watch",)
    assert not applied["get_default_distributed_backend"].error
    assert applied["to_be_found"].error
    (ran,) = trace.of("hook")
    assert (ran.detail, ran.result) == ("AFTER acme_plugin.watch", "'acme-backend'")
    assert ran.by.origin == "vendor"  # this test, which stands for the core


def test_a_platform_that_a_plugin_asks_for_while_it_is_imported_is_told_with_the_line(
    acme: Start, tmp_path: Path
) -> None:
    (tmp_path / "acme_hooks.py").write_text(HASTY)
    trace = acme("0.5.12", hooks="acme_hooks")
    resolved, call = trace.first("moment", RESOLVED), trace.first("call", "get_device")
    assert resolved
    assert call
    assert (str(resolved.by), resolved.by.origin, resolved.detail) == ("acme_hooks.py:2", "vendor", IMPORTED)
    assert (str(call.by), call.by.origin) == ("acme_hooks.py:4", "vendor")
    assert [(f.rule, f.member, f.caller) for f in expected.early(trace)] == [
        ("early", RESOLVED, "acme_hooks.py:2"),
        ("early", "get_device", "acme_hooks.py:4"),
    ]


def test_what_was_there_before_the_trace_is_told_as_that(acme: Start) -> None:
    trace = acme("0.5.23", late=True)
    resolved = trace.first("moment", RESOLVED)
    assert resolved
    assert resolved.detail == BEFORE
    assert trace.first("moment", PLUGINS) is None
    (applied,) = trace.of("applied")
    assert applied.detail == BEFORE
    assert [event.name for event in trace.of("call")][:2] == ["get_device_total_memory", "get_device"]


def test_modules_see_their_own_loader(acme: Start, tmp_path: Path) -> None:
    acme(
        "0.5.23", early="import sglang.srt.plugins as p; assert p.__loader__ is p.__spec__.loader; SEEN = p.__loader__"
    )
    assert type(sys.modules["acme_plugin"].SEEN) is not attaching._Loader
