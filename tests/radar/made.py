"""Little plugins, and little releases of SGLang: the contract is that of the bundled tables, the rest is made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from textwrap import dedent, indent

from sglang_conformance.contract import tables
from sglang_conformance.contract.extract_index import put_together
from sglang_conformance.contract.index import Index
from sglang_conformance.contract.index_module import read
from sglang_conformance.contract.model import Contract
from sglang_conformance.radar.opening import open_plugin
from sglang_conformance.radar.reading.code import Code
from sglang_conformance.radar.reading.history import History
from sglang_conformance.radar.survey import Judged, between, judge

OLD, MIDDLE, LAST, NEW = "0.5.11", "0.5.16", "0.5.21", "0.5.23"
RELEASES = (OLD, MIDDLE, LAST, NEW)

PYPROJECT = """
[project]
name = "vendor"
version = "1.2"

[project.entry-points."sglang.srt.platforms"]
vendor = "vendor:activate"

[project.entry-points."sglang.srt.plugins"]
vendor_hooks = "vendor.hooks:register"
"""

ACTIVATE = """
def activate():
    return "vendor.platform.VendorPlatform"
"""

# What a class has that breaks nowhere: the capabilities of new releases, the flags and pools of old ones.
PLATFORM = """
from sglang.srt.platforms.device_mixin import DeviceMixin, PlatformEnum
from sglang.srt.platforms.interface import SRTPlatform
"""

_REGISTRY = """
class HookType:
    BEFORE = "before"
    AFTER = "after"
    AROUND = "around"
    REPLACE = "replace"

class HookRegistry:
    @classmethod
    def register(cls, target, hook, hook_type=HookType.AFTER, *, source=None): ...

def plugin_hook(target, type=HookType.AFTER): ...
"""

# Of a made module: its text in the older releases, and that from 0.5.21 on.
_CORE: Mapping[str, tuple[str, str]] = {
    "sglang.srt.core": (
        """
        class Worker:
            def __init__(self, args, rank): ...
            def run(self, batch): ...
            def stop(self): ...
            @classmethod
            def make(cls, args): ...
            @property
            def name(self): ...

        import torch
        class Net(torch.nn.Module):
            def was(self): ...

        try:
            from sglang.srt.elsewhere import Fresh
        except ImportError:
            class Fresh: ...
        class Mixed(Worker, Fresh): ...

        class Gone: ...
        def moves(x): ...
        def goes(x): ...
        def grows(x): ...
        def turns(x): ...
        def renames(old, other): ...
        def retired(): ...
        def is_sparse_nsa(): ...
        def stays(x, *, y=None): ...
        def class_then_function(x): ...
        """,
        """
        class Worker:
            def __init__(self, args, rank, port): ...
            speed = 1
            def run(self, batch, *, stream): ...
            @classmethod
            def make(cls, args): ...
            @property
            def name(self): ...

        import torch
        class Net(torch.nn.Module): ...

        try:
            from sglang.srt.elsewhere import Fresh
        except ImportError:
            class Fresh: ...
        class Mixed(Worker, Fresh): ...

        def grows(x, y): ...
        def turns(x, z=None): ...
        def renames(new, other): ...
        def retired() -> NoReturn: ...
        def is_sparse_dsa(): ...
        def stays(x, *, y=None): ...
        """,
    ),
    "sglang.srt.elsewhere_too": ("from sglang.srt.core import stays", "x = 1"),
    "sglang.srt.elsewhere": ("", "def moves(x): ...\nclass Fresh: ..."),
    "sglang.srt.lost": ("def old(): ...", ""),
    "sglang.srt.environ": (
        """
        class Envs:
            SGLANG_OLD = 1
            SGLANG_KEPT = 1
        envs = Envs()
        def get_bool_env_var(name, default='false'): ...
        """,
        """
        class Envs:
            SGLANG_KEPT = 1
        envs = Envs()
        def get_bool_env_var(name, default='false'): ...
        """,
    ),
    "sglang.srt.mem_cache.memory_pool": (
        """
        class MHATokenToKVPool:
            def __init__(self, size, page_size, dtype, head_num): ...
        class MLATokenToKVPool:
            def __init__(self, size, page_size, dtype, kv_lora_rank): ...
        """,
        """
        class MHATokenToKVPool:
            def __init__(self, size, page_size, dtype, head_num, layout, more=None, end_layer=None): ...
        class MLATokenToKVPool:
            def __init__(self, size, page_size, dtype, kv_lora_rank): ...
        class DSATokenToKVPool(MLATokenToKVPool): ...
        """,
    ),
}


@cache
def contract(release: str) -> Contract:
    return tables.load(release)


@cache
def index(release: str) -> Index:
    """What can be named in a made release: the platform's classes as the tables have them, and a little core."""
    late = release in (LAST, NEW)
    texts = {name: dedent(text[late]) for name, text in _CORE.items() if text[late] or not late}
    texts["sglang.srt.platforms.device_mixin"] = _class("DeviceMixin", release) + "\nclass PlatformEnum: ..."
    texts["sglang.srt.platforms.interface"] = "from sglang.srt.platforms.device_mixin import DeviceMixin\n" + _class(
        "SRTPlatform(DeviceMixin)", release
    )
    if contract(release).capabilities:
        texts["sglang.srt.platforms.interface"] += "\nclass PlatformCapabilities: ..."
    texts["sglang.srt.platforms"] = "def __getattr__(name): ..."
    texts["sglang.srt.plugins.hook_registry"] = _REGISTRY
    texts["sglang"] = "from sglang.version import __version__"
    texts["sglang.version"] = "__version__ = ''"
    packages = {"sglang", "sglang.srt", "sglang.srt.mem_cache", "sglang.srt.platforms", "sglang.srt.plugins"}
    for package in packages:
        texts.setdefault(package, "")
    names = {name: read(text.encode(), name, package=name in packages) for name, text in texts.items()}
    return Index(release, put_together(names))


def _class(head: str, release: str) -> str:
    owner = head.partition("(")[0]
    lines = []
    for member in contract(release).members:
        if member.owner == owner:
            is_read = member.kind in ("attribute", "property")
            lines.append(f"{member.name} = None" if is_read else f"def {member.name}{_bare(member.signature)}: ...")
    return f"class {head}:\n" + indent("\n".join(lines), "    ")


def _bare(signature: str) -> str:
    return signature.partition(" ->")[0]


@cache
def history() -> History:
    return History({release: contract(release) for release in RELEASES}, lambda *names: [index(name) for name in names])


def write(folder: Path, files: Mapping[str, str], pyproject: str = PYPROJECT) -> Path:
    """A source folder of a plugin; what is not given is as it should be."""
    given = {"vendor/__init__.py": ACTIVATE, "vendor/hooks.py": "def register(): ...", "pyproject.toml": pyproject}
    for name, text in {**given, "vendor/platform.py": platform(""), **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return folder


def platform(body: str, before: str = "", bases: str = "VendorMixin, SRTPlatform", mixin: str = "") -> str:
    """A module with a platform class: these lines in its body, and before it; ``mixin`` in that of its device class."""
    inside = indent(dedent(body).strip() or "pass", "    ")
    device = indent(dedent(mixin).strip() or "pass", "    ")
    return (
        f"{PLATFORM}\n{dedent(before)}\n"
        f"class VendorMixin(DeviceMixin):\n    _enum = PlatformEnum.OOT\n{device}\n\n"
        f"class VendorPlatform({bases}):\n{inside}\n"
    )


def judged(folder: Path, release: str) -> Judged:
    plugin = open_plugin(str(folder))
    return judge(plugin, Code.of(plugin), history(), release)


def found(folder: Path, release: str) -> list[tuple[str, str, str]]:
    """Kind, severity and subject of what is found in one release, without what is only reachable."""
    findings = judged(folder, release).findings
    return [(f.kind, f.severity.value, f.subject) for f in findings if f.kind != "reachable"]


def everywhere(folder: Path) -> dict[str, list[tuple[str, str, str]]]:
    return {release: found(folder, release) for release in RELEASES}


def compared(folder: Path, start: str, end: str):  # type: ignore[no-untyped-def]
    return between({release: judged(folder, release) for release in RELEASES}, start, end)
