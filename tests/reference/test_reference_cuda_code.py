"""The code that a device gets of the kernels, compiled without one: how it moves, waits, tells and rounds."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

from import_path import REFERENCE, import_path

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton: pip install 'sglang-conformance[cuda]'", allow_module_level=True)

_PROGRAM = """
import json, sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from sglang_reference._cuda_all_reduce import kernels

TYPES = {"table": "*i64", "inputs": "*i64", "limit": "i64", "status": "i64"}
TYPES |= {"packs": "i32", "slot": "i32", "rank": "i32"}
code = {}
for name in ("one_shot_push", "two_shot_push", "one_shot_pull", "two_shot_pull"):
    for dtype, pack in (("bf16", 8), ("fp16", 8), ("fp32", 4)):
        kernel = getattr(kernels, name)
        constants = dict(WORLD=3, LANES=4, TILE=512 * pack, PACK=pack, WIDE=pack == 8, BLOCKS=64, SPAN=64, HEAD=80)
        if "STAGED" in kernel.arg_names:
            constants["STAGED"] = name == "one_shot_pull"
        given = {**dict.fromkeys(constants, "constexpr"), **TYPES}
        signature = {each: given.get(each, f"*{dtype}") for each in kernel.arg_names}
        aligned = {(at,): [["tt.divisibility", 16]] for at, each in enumerate(kernel.arg_names)
                   if signature[each].startswith("*")}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
        compiled = compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options={"num_warps": 16})
        code[f"{name} {dtype}"] = compiled.asm["ptx"]
json.dump(code, sys.stdout)
"""


@pytest.fixture(scope="module", params=[80, 90])
def code(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """PTX by kernel and type, for an architecture."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    environment |= {
        "PYTHONPATH": import_path(REFERENCE),
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
        "TRITON_DEFAULT_FP_FUSION": "0",
    }
    program = [sys.executable, "-c", _PROGRAM, str(request.param)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    assert len(found) == 12
    return found


def instructions(ptx: str) -> list[str]:
    return [line.strip() for line in ptx.splitlines() if line.strip() and not line.strip().startswith(("//", "."))]


def test_elements_are_moved_by_16_bytes(code: dict[str, str]) -> None:
    for name, ptx in code.items():
        moved = re.findall(r"(?:ld|st)\.global[\w.:]*", ptx)
        elements = [each for each in moved if not each.endswith("b64")]  # those of 8 bytes are words and addresses
        assert len(elements) >= 5, name
        assert all(".v4.b32" in each for each in elements), name


def test_words_are_raised_by_release_and_looked_at_by_acquire_for_the_whole_system(code: dict[str, str]) -> None:
    for name, ptx in code.items():
        atomics = re.findall(r"\batom[\w.:]*|\bred\.[\w.:]*", ptx)
        meetings = 1 if name.startswith("one_shot") else 2  # the one-shot pull is one that stages
        raised, looked = (f"atom.global.sys.{how}" for how in ("release.exch.b64", "acquire.add.u64"))
        assert sorted(atomics) == sorted([raised, looked] * meetings), name


def test_all_threads_have_written_before_a_word_is_raised_and_wait_before_they_read(code: dict[str, str]) -> None:
    for name, ptx in code.items():
        kinds = [
            "barrier" if each.startswith("bar.sync") else found[0]
            for each in instructions(ptx)
            if (
                found := re.findall(
                    r"^(?:@\S+ )?(bar\.sync|st\.global\.v4|ld\.global\.v4|atom\S*\.(?:release|acquire))", each
                )
            )
        ]
        for at, kind in enumerate(kinds):
            if kind.endswith("release"):
                assert first(kinds[:at][::-1], "barrier") < first(kinds[:at][::-1], "v4"), name
            if kind.endswith("acquire"):
                assert first(kinds[at + 1 :], "barrier") < first(kinds[at + 1 :], "v4"), name


def first(kinds: list[str], ending: str) -> int:
    return next((at for at, kind in enumerate(kinds) if kind.endswith(ending)), len(kinds))


def test_sums_are_made_in_float32_and_rounded_to_the_nearest(code: dict[str, str]) -> None:
    for name, ptx in code.items():
        assert "add.f32" in ptx or "add.rn.f32" in ptx, name
        assert not re.search(r"\badd(?:\.rn)?\.(?:f16|bf16)", ptx), name
        assert "fma" not in ptx, name
        narrowed = re.findall(r"\bcvt\.(\w+)\.(?:f16|bf16)(?:x2)?\.f32", ptx)
        assert set(narrowed) == (set() if name.endswith("fp32") else {"rn"}), name
