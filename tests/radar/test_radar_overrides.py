from __future__ import annotations

from pathlib import Path

import pytest

from .made import LAST, MIDDLE, NEW, OLD, everywhere, found, platform, write

FLAGS = """
def support_cuda_graph(self):
    return True
"""
CAPABLE = """
try:
    from sglang.srt.platforms.interface import PlatformCapabilities
except ImportError:
    PlatformCapabilities = None
CAPABILITIES = None if PlatformCapabilities is None else PlatformCapabilities(graph_capture=True)
"""


def written(
    folder: Path, body: str, before: str = "", bases: str = "VendorMixin, SRTPlatform", mixin: str = ""
) -> Path:
    return write(folder, {"vendor/platform.py": platform(body, before, bases, mixin)})


def test_plain_plugin_has_no_findings(tmp_path: Path) -> None:
    assert everywhere(write(tmp_path, {})) == {OLD: [], MIDDLE: [], LAST: [], NEW: []}


def test_flag_dies_with_the_capabilities(tmp_path: Path) -> None:
    folder = written(tmp_path, FLAGS)
    assert found(folder, LAST) == []
    assert found(folder, NEW) == [("unread", "dies silently", "support_cuda_graph")]


@pytest.mark.parametrize(
    ("body", "severity"),
    [
        ("return False", "deprecated"),
        ("return self.x", "dies silently"),
        ("if self.x:\n        return True\n    return False", "dies silently"),
    ],
)
def test_flag_that_declines_is_what_the_default_says(tmp_path: Path, body: str, severity: str) -> None:
    folder = written(tmp_path, f"x = 1\ndef support_cuda_graph(self):\n    {body}\ndef init_backend(self):\n    self.x")
    assert [f[1:] for f in found(folder, NEW)] == [(severity, "support_cuda_graph")]


def test_flag_beside_the_capabilities_is_for_older_releases(tmp_path: Path) -> None:
    folder = written(tmp_path, f"{FLAGS}\ncapabilities = CAPABILITIES", CAPABLE)
    assert set(map(tuple, everywhere(folder).values())) == {()}


@pytest.mark.parametrize(
    "condition",
    [
        "PlatformCapabilities is None",
        "not PlatformCapabilities",
        "Version(sglang.__version__) < Version('0.5.22')",
        "tuple(int(x) for x in sglang.__version__.split('.')[:3]) < (0, 5, 22)",
        "not hasattr(SRTPlatform, 'get_kv_pool_cls')",
        "hasattr(SRTPlatform, 'support_cuda_graph')",
        "before('0.5.22')",
    ],
)
def test_guarded_flag_is_not_blamed(tmp_path: Path, condition: str) -> None:
    before = f"""
import sglang
from packaging.version import Version
def before(release):
    return Version(sglang.__version__) < Version(release)
{CAPABLE}
"""
    folder = written(tmp_path, f"if {condition}:\n    def support_cuda_graph(self):\n        return True", before)
    assert set(map(tuple, everywhere(folder).values())) == {()}


def test_legacy_pool_is_deprecated_and_not_where_its_successor_is(tmp_path: Path) -> None:
    legacy = "def get_mha_kv_pool_cls(self):\n    return None\n"
    folder = written(tmp_path / "a", legacy)
    assert found(folder, LAST) == []
    assert found(folder, NEW) == [("superseded", "deprecated", "get_mha_kv_pool_cls")]
    folder = written(tmp_path / "b", f"{legacy}\ndef get_kv_pool_cls(self, *, kind):\n    return None")
    assert found(folder, NEW) == []


def test_renamed_pool_dies_unless_both_names_are_there(tmp_path: Path) -> None:
    old = "def get_nsa_kv_pool_cls(self):\n    return None\n"
    folder = written(tmp_path / "a", old)
    assert found(folder, OLD) == []
    assert found(folder, MIDDLE) == [("unread", "dies silently", "get_nsa_kv_pool_cls")]
    assert found(written(tmp_path / "b", old + old.replace("nsa", "dsa")), MIDDLE) == []


def test_flag_that_core_never_read_is_only_to_be_tidied_up(tmp_path: Path) -> None:
    folder = written(tmp_path, "def supports_fp8(self):\n    return True")
    assert found(folder, NEW) == [("superseded", "deprecated", "supports_fp8")]


def test_name_that_no_release_knows(tmp_path: Path) -> None:
    folder = written(tmp_path, "def get_device_totl_memory(self, device_id=0):\n    return 1")
    assert found(folder, OLD) == [("unread", "dies silently", "get_device_totl_memory")]


@pytest.mark.parametrize(
    "body",
    [
        "def helper(self):\n    return 1\ndef init_backend(self):\n    self.helper()",
        "def _private(self):\n    return 1",
        "def post_load_model(self, model):\n    pass",  # of a later release: an older one does not miss it
    ],
)
def test_own_names_are_the_plugins_affair(tmp_path: Path, body: str) -> None:
    assert found(written(tmp_path, body), OLD) == []


def test_name_of_another_base_may_be_read_there(tmp_path: Path) -> None:
    folder = written(
        tmp_path, "def get_from_torch(self):\n    pass", "import torch_vendor", "torch_vendor.P, SRTPlatform"
    )
    assert found(folder, NEW) == []


def test_member_behind_the_default_is_hidden(tmp_path: Path) -> None:
    mixin = "def get_compile_backend(self, mode=None):\n    return 'eager'"
    assert found(written(tmp_path / "a", "", mixin=mixin), NEW) == []
    folder = written(tmp_path / "b", "", bases="SRTPlatform, VendorMixin", mixin=mixin)
    assert found(folder, NEW) == [("hidden", "dies silently", "get_compile_backend")]


def test_what_core_does_not_ask_for_is_not_hidden_from_it(tmp_path: Path) -> None:
    mixin = "def is_pin_memory_available(self, device=None):\n    return False"
    folder = written(tmp_path, "", bases="SRTPlatform, VendorMixin", mixin=mixin)
    assert found(folder, OLD) == []
