"""What an installed SGLang lacks is told on one line, all of it at once; what it can do without is not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from import_path import import_path

ASK = """
import importlib, sys
from sglang_conformance.hosts import lacking
modules = sys.argv[1:]
try:
    for module in modules:
        importlib.import_module(module)
    print("it imports")
except Exception as error:
    print(lacking.told(error, modules))
"""


def told(folder: Path, *modules: str, **files: str) -> str:
    """What is told of an SGLang whose modules have these texts; ``a__b`` is the name of ``a/b``."""
    package = folder / "sglang"
    texts = {"__init__": "", **{name.replace("__", "/") if name[0] != "_" else name: t for name, t in files.items()}}
    for name, text in texts.items():
        file = package / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    ran = subprocess.run(
        [sys.executable, "-c", ASK, *modules],
        env={"PYTHONPATH": import_path(folder), "PATH": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = ran.stdout.splitlines()
    assert len(lines) == 1, ran.stdout
    return lines[0]


def test_all_that_is_missing_is_told_at_once_with_its_command(tmp_path: Path) -> None:
    line = told(
        tmp_path,
        "sglang.platforms",
        "sglang.groups",
        __init__="import sglang.utils",
        utils="""
            import absent_one
            from absent_two.part import thing, Base
            from PIL_absent import Image
            class Own(Base, thing.Other): pass
            @absent_one.registered(Own | None, key=thing[int])
            def f(x: absent_one.Kind): pass
        """,
        platforms="import sglang.utils",
        groups="import zmq_absent",
    )
    named = "absent_one, absent_two, PIL_absent, zmq_absent"
    assert line.endswith(f" does not import here: it lacks {named}; pip install {named.replace(',', '')}")


def test_what_is_only_tried_is_not_told(tmp_path: Path) -> None:
    line = told(
        tmp_path,
        "sglang.platforms",
        platforms="""
            import contextlib, importlib.util
            import absent
            try:
                import tried
            except ImportError:
                tried = None
            with contextlib.suppress(ModuleNotFoundError):
                import suppressed
            try:
                from sglang import optional
            except Exception:
                pass
            if importlib.util.find_spec("asked"):
                import asked
            def later():
                import late
            try:
                import needed
            except ValueError:
                pass
        """,
        optional="import deep",
    )
    assert line.endswith(" it lacks absent, needed; pip install absent needed")


def test_package_known_by_another_name_and_one_built_for_torch() -> None:
    script = "from sglang_conformance.hosts import lacking; print(lacking.command(['zmq', 'torchvision', 'PIL']))"
    said = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": import_path()}, capture_output=True, text=True, check=True
    ).stdout
    words = said.split()
    assert words[2].startswith("torch==")
    assert "+" not in words[2]
    assert words[3:] == ["pyzmq", "torchvision", "pillow"]


def test_package_for_gpus_alone_is_told_as_such(tmp_path: Path) -> None:
    line = told(tmp_path, "sglang.scheduler", scheduler="import absent, sgl_kernel.kvcacheio")
    said = "it lacks absent, sgl_kernel; pip install absent sgl-kernel, on a machine with an NVIDIA GPU (sgl_kernel)"
    assert line.endswith(said)


PINNED = """Metadata-Version: 2.1
Name: sglang
Version: 9.8.7
Requires-Dist: absent_part==1.2.3
Requires-Dist: absent>=2
Requires-Dist: torchvision==0.1
"""


def test_version_that_sglang_says_is_told_but_where_torch_has_a_part_in_it(tmp_path: Path) -> None:
    (tmp_path / "sglang-9.8.7.dist-info").mkdir()
    (tmp_path / "sglang-9.8.7.dist-info" / "METADATA").write_text(PINNED)
    line = told(tmp_path, "sglang.scheduler", scheduler="import absent_part, absent")
    assert (
        line == "SGLang 9.8.7 does not import here: it lacks absent_part, absent; pip install absent_part==1.2.3 absent"
    )


def test_stand_in_that_is_gone_through_comes_to_an_end(tmp_path: Path) -> None:
    line = told(
        tmp_path, "sglang.scheduler", scheduler="import absent\nfor each in absent.handlers[:]: pass\nimport later"
    )
    assert line.endswith(" it lacks absent, later; pip install absent later")


def test_package_that_fails_is_named_with_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("raise RuntimeError('operator broken::nms\\n does not exist')")
    line = told(tmp_path, "sglang.platforms", platforms="import broken")
    assert (
        "does not import here: broken, which it wants, fails with RuntimeError: operator broken::nms does not" in line
    )
    assert "; install a broken that fits torch " in line


def test_missing_part_of_sglang_itself_is_no_missing_package(tmp_path: Path) -> None:
    line = told(tmp_path, "sglang.platforms", platforms="import sglang.gone")
    assert line.endswith(" does not import here: ModuleNotFoundError: No module named 'sglang.gone'")


def test_missing_part_of_a_package_that_is_here_is_no_missing_package(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "__init__.py").write_text("")
    line = told(tmp_path, "sglang.platforms", platforms="import old.newer")
    assert "pip install" not in line
    assert "No module named 'old.newer'" in line


EDITABLE = """
import importlib.machinery, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "edited":
            return importlib.machinery.PathFinder.find_spec(name, [sys.path[0] + "/elsewhere", "elsewhere"])
sys.meta_path.append(Finder)
"""


def test_missing_part_of_a_package_that_is_being_edited_is_no_missing_package(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(EDITABLE)
    (tmp_path / "elsewhere" / "edited").mkdir(parents=True)
    (tmp_path / "elsewhere" / "edited" / "__init__.py").write_text("")
    line = told(tmp_path, "sglang.platforms", platforms="import edited.newer")
    assert "pip install" not in line
    assert "No module named 'edited.newer'" in line
