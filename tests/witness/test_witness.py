"""A second witness: SGLang's own tests of its plugin system, with the reference in the place of ``sglang.srt``.

They are not part of this repository. ``SGLANG_WITNESS`` names a folder in which each folder, named after a release,
holds test files of that release: of sgl-project/sglang, ``test/registered/unit/plugins/test_*.py`` and
``test/registered/unit/platforms/test_platform_interface.py`` at the release's tag.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from import_path import REFERENCE, TESTS, import_path
from sglang_conformance.contract import tables
from witness.stand_in import RELEASE

WITNESS = os.environ.get("SGLANG_WITNESS", "")
SECONDS = 300

# How the witnesses are heard: by tests of our own, in SGLang's manner.
HEARD = """
from unittest.mock import patch

from sglang.srt import platforms
from sglang.srt.plugins import load_plugins_by_group
from sglang.test.ci.ci_register import register_cpu_ci, register_cuda_ci
from sglang.test.test_utils import CustomTestCase

register_cpu_ci(est_time=1, suite="cpu")


class TestHeard(CustomTestCase):
    def test_right(self):
        import sglang

        with patch("sglang.srt.platforms._resolve_platform") as resolve:
            platforms._current_platform = None
            assert platforms.current_platform is resolve.return_value
        platforms._current_platform = None
        assert sglang.__version__ == "{release}"

    def test_not_covered(self):
        import sglang.srt.disaggregation

    def test_not_covered_within_a_module(self):
        from sglang import _platform_stubs

        _platform_stubs.anything()
"""
WRONG = """

def test_wrong():
    from sglang.srt.platforms import device_mixin

    assert device_mixin.DeviceCapability(9, 0).to_int() == 91
"""


def hear(folder: Path, release: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder against the reference for a release."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SGLANG_"))}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "witness.stand_in", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("-q", "-rsfE", f"--rootdir={folder}", "--import-mode=importlib", str(folder)),
        ],
        env={**plain, RELEASE: release, "PYTHONPATH": import_path(TESTS, REFERENCE)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def releases() -> list[str]:
    """The folders of the witnesses that are named after a release with a table."""
    return [release for release in tables.releases() if WITNESS and Path(WITNESS, release).is_dir()]


@pytest.mark.skipif(not WITNESS, reason="SGLANG_WITNESS names no folder with SGLang's own tests, by release")
def test_there_are_witnesses() -> None:
    assert releases(), f"SGLANG_WITNESS={WITNESS}: none of its folders is named after a release: {tables.releases()}"


@pytest.mark.parametrize("release", releases())
def test_sglangs_own_tests_pass_on_the_reference(release: str) -> None:
    heard = hear(Path(WITNESS, release), release)
    assert heard.returncode == 0, heard.stdout + heard.stderr
    assert " passed" in heard.stdout.splitlines()[-1]


@pytest.mark.parametrize("release", ["0.5.12.post1", "0.5.23"])
def test_witnesses_are_heard_and_believed(tmp_path: Path, release: str) -> None:
    (tmp_path / "test_heard.py").write_text(HEARD.format(release=release), encoding="utf-8")
    heard = hear(tmp_path, release)
    assert heard.returncode == 0, heard.stdout + heard.stderr
    assert "1 passed, 2 skipped" in heard.stdout
    assert "not covered: sglang.srt.disaggregation" in heard.stdout
    assert "not covered: sglang._platform_stubs.anything" in heard.stdout
    (tmp_path / "test_heard.py").write_text(WRONG, encoding="utf-8")
    heard = hear(tmp_path, release)
    assert heard.returncode == 1
    assert "1 failed" in heard.stdout
