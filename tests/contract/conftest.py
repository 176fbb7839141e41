from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# The least package that has a contract, written for these tests.
MINIMAL = {
    "_version.py": "__version__ = version = '9.8.7'\n",
    "srt/environ.py": """
class Envs:
    SGLANG_PLATFORM = EnvStr("")
    SGLANG_PLUGINS = EnvStr("")
    SGLANG_LIMIT = EnvIntWithAlias(4, deprecated_name="OLD")
    SGLANG_FLAG = EnvBool(True)
""",
    "srt/plugins/__init__.py": """
PLATFORM_PLUGINS_GROUP = "group.platforms"
GENERAL_PLUGINS_GROUP = "group.plugins"

def allowed():
    return envs.SGLANG_PLUGINS.get()
""",
    "srt/platforms/__init__.py": """
from sglang.srt.platforms.interface import SRTPlatform
from sglang.srt.platforms.tpu import TpuPlatform
from sglang.srt.platforms.cpu import CpuPlatform as Fallback

def _resolve_platform():
    if envs.SGLANG_PLATFORM.get():
        return load(envs.SGLANG_PLATFORM.get())()
    if tpu():
        return TpuPlatform()
    if cpu():
        return Fallback()
    return SRTPlatform()
""",
    "srt/platforms/device_mixin.py": """
class PlatformEnum(enum.Enum):
    CPU = enum.auto()
    OOT = enum.auto()
    UNSPECIFIED = enum.auto()

class CpuArchEnum(enum.Enum):
    X86 = enum.auto()

class DeviceMixin:
    _enum: PlatformEnum = PlatformEnum.UNSPECIFIED
    device_name: str = "unknown"

    def synchronize(self) -> None:
        pass
""",
    "srt/platforms/interface.py": """
class SRTPlatform(DeviceMixin):
    def get_thing(self):
        return None
""",
    "srt/distributed/parallel_state.py": """
_DEVICE_TO_DISTRIBUTED_BACKEND = {"cpu": "gloo", "cuda": "nccl"}

def get_default_distributed_backend(device):
    return _DEVICE_TO_DISTRIBUTED_BACKEND.get(device, "gloo")
""",
}


@pytest.fixture
def sglang_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes a minimal package under a folder and returns the folder; a file given as None is left out."""

    def write(files: dict[str, str | None] | None = None) -> Path:
        for name, text in {**MINIMAL, **(files or {})}.items():
            if text is not None:
                file = tmp_path / "sglang" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        return tmp_path

    return write


@pytest.fixture
def wheel() -> Callable[[str], Path]:
    """The released wheel of a release, in the folder that SGLANG_CONFORMANCE_WHEELS names; skips where it is not."""

    def found(release: str) -> Path:
        folder = os.environ.get("SGLANG_CONFORMANCE_WHEELS")
        if not folder:
            pytest.skip("SGLANG_CONFORMANCE_WHEELS names no folder with SGLang wheels")
        wheels = sorted(Path(folder).glob(f"sglang-{release}-*.whl"))
        if not wheels:
            pytest.skip(f"{folder} holds no wheel of SGLang {release}")
        return wheels[0]

    return found
