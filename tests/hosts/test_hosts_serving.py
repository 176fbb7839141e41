"""Where models are served by the installed SGLang: on ranks of their own, and what keeps them from it told."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from import_path import import_path
from sglang_conformance.hosts import serving
from sglang_conformance.suite.areas import AREAS, SERVING, module_name


def test_areas_that_have_models_served_are_those_that_say_so() -> None:
    modules = {area: importlib.import_module(module_name(area)) for area in AREAS}
    takes = {area for area, module in modules.items() if "from .serving.legs import" in inspect.getsource(module)}
    assert takes == SERVING


def test_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.delenv("MADE", raising=False)
    before = dict(os.environ)
    with serving.surroundings():
        os.environ |= {"KEPT": "2", "MADE": "1"}
    assert dict(os.environ) == before


SCHEDULER = """
import traceback

def get_exception_traceback():
    return traceback.format_exc().splitlines()[-1]

class Scheduler:
    def __init__(self, server_args):
        raise ValueError("no room")

def run_scheduler_process(server_args):
    try:
        Scheduler(server_args)
    except Exception:
        print("logged", get_exception_traceback())
"""
SCHEDULE = """
import json, sys, types
from pathlib import Path
from sglang_conformance.hosts import serving
from sglang.srt.managers import scheduler
Path("config.json").write_text(json.dumps({"architectures": sys.argv[1:]}))
made = scheduler.Scheduler.__init__
with serving.scheduling(lambda error: print("told", type(error).__name__, error)):
    scheduler.run_scheduler_process(types.SimpleNamespace(model_path=".", disable_cuda_graph=True))
print(scheduler.Scheduler.__init__ is made)
"""


def scheduled(folder: Path, *architectures: str) -> list[str]:
    """What comes of a scheduler that cannot be made, for a model of these architectures."""
    installed(folder, srt__managers__scheduler=SCHEDULER, srt__models__llama="import gguf")
    return answer(folder, SCHEDULE, *architectures)


def test_error_that_a_scheduler_keeps_to_its_process_is_told(tmp_path: Path) -> None:
    assert scheduled(tmp_path) == ["told ValueError no room", "logged ValueError: no room", "True"]


def test_error_for_want_of_a_package_is_told_as_that(tmp_path: Path) -> None:
    told, *_ = scheduled(tmp_path, "LlamaForCausalLM")
    assert told.startswith("told NotServed ")
    assert "gguf" in told.partition(" it lacks ")[2]


ASK = """
from sglang_conformance.hosts import serving
try:
    serving.load()
    print("it serves")
except serving.NotServed as error:
    print(error)
    print(serving.NotCovered in type(error).__mro__)
except Exception as error:
    print(type(error).__name__, error)
"""


def asked(folder: Path, **files: str) -> list[str]:
    """What comes of making ready to serve with an SGLang of which these modules have these texts."""
    installed(folder, srt__models__registry="", **files)
    return answer(folder, ASK)


def installed(folder: Path, **files: str) -> None:
    """Put an SGLang there of which these modules have these texts."""
    for name, text in {"__init__": "", "srt__server_args": "", **files}.items():
        file = folder / "sglang" / f"{name.replace('__', '/') if name[0] != '_' else name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))


def answer(folder: Path, script: str, *arguments: str) -> list[str]:
    """What a script prints, where that SGLang is the installed one."""
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={"PYTHONPATH": import_path(folder), "PATH": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ran.stdout.splitlines()


def test_all_packages_that_serving_wants_are_told_at_once(tmp_path: Path) -> None:
    there = ("safetensors", "gguf")
    for name in there:
        (tmp_path / f"{name}.py").write_text("")
    line, is_uncovered = asked(tmp_path, srt__managers__scheduler="import transformers")
    assert " does not import here: it lacks transformers, " in line
    assert " transformers " in line.partition("; pip install ")[2]
    assert "xgrammar" in line
    assert not any(name in line for name in there)
    assert is_uncovered == "True"


def test_package_that_few_releases_want_is_told_too(tmp_path: Path) -> None:
    line, _ = asked(tmp_path, srt__managers__scheduler="import sgl_kernel.kvcacheio")
    assert " it lacks sgl_kernel; pip install sgl-kernel, on a machine with an NVIDIA GPU" in line


def test_package_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "processing.py").write_text("raise ValueError('qwen3_asr is already used')\n")
    line, _ = asked(tmp_path, srt__managers__scheduler="import processing")
    assert "processing, which it wants, fails with ValueError: qwen3_asr is already used; install a processing " in line


def test_what_serves_is_imported_once_it_can_be(tmp_path: Path) -> None:
    assert asked(tmp_path, srt__managers__scheduler="") == ["it serves"]
