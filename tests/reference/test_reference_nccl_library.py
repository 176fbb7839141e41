"""The reference's binding of NCCL's C API: its numbers, how a library is found, and NCCL itself where it is installed.

NCCL comes as nvidia-nccl-cu13 or nvidia-nccl-cu12 from PyPI, and loads on machines without a GPU; none is used here.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.distributed import ReduceOp

import sglang_host_nccl
from reference.pynccl_itself import answers
from reference.pynccl_ranks import MISSING, PATH_VARIABLE, WRAPPER, ranks
from sglang_host_nccl import codes, library, unique_id

# nccl.h of NCCL 2.32.3.
DATA_TYPES = {
    "ncclInt8": 0,
    "ncclChar": 0,
    "ncclUint8": 1,
    "ncclInt32": 2,
    "ncclInt": 2,
    "ncclUint32": 3,
    "ncclInt64": 4,
    "ncclUint64": 5,
    "ncclFloat16": 6,
    "ncclHalf": 6,
    "ncclFloat32": 7,
    "ncclFloat": 7,
    "ncclFloat64": 8,
    "ncclDouble": 8,
    "ncclBfloat16": 9,
}
REDUCTIONS = {"ncclSum": 0, "ncclProd": 1, "ncclMax": 2, "ncclMin": 3, "ncclAvg": 4}
TYPE_CODES = {
    torch.int8: 0,
    torch.uint8: 1,
    torch.int32: 2,
    torch.int64: 4,
    torch.float16: 6,
    torch.float32: 7,
    torch.float64: 8,
    torch.bfloat16: 9,
}
TEXTS = {
    -1: "unknown result code",
    0: "no error",
    1: "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
    2: "unhandled system error (run with NCCL_DEBUG=INFO for details)",
    3: "internal error - please report this issue to the NCCL developers",
    4: "invalid argument (run with NCCL_DEBUG=WARN for details)",
    5: "invalid usage (run with NCCL_DEBUG=WARN for details)",
    6: "remote process exited or there was a network error",
    7: "NCCL operation in progress",
    8: "timeout",
    9: "unknown result code",
}
# By C's rules: eight bytes for a pointer and a size_t, four for an int, and each at a multiple of its length.
CONFIG_OFFSETS = {
    "size": 0,
    "magic": 8,
    "version": 12,
    "blocking": 16,
    "cgaClusterSize": 20,
    "minCTAs": 24,
    "maxCTAs": 28,
    "netName": 32,
    "splitShare": 40,
    "trafficClass": 44,
    "commName": 48,
    "collnetEnable": 56,
    "CTAPolicy": 60,
    "shrinkShare": 64,
    "nvlsCTAs": 68,
    "nChannelsPerNetPeer": 72,
    "nvlinkCentricSched": 76,
    "graphUsageMode": 80,
    "numRmaCtx": 84,
    "maxP2pPeers": 88,
}
# What is asked of a library without a communicator, and the results that NCCL gives.
RESULTS = {
    "all-reduce without a communicator": 4,
    "end of no group": 5,
    "no place for an id": 4,
    "no place for a version": 4,
    "destroy nothing": 0,
    "abort nothing": 0,
    "the error of nothing": 4,
}


@pytest.fixture
def wrapper(install: Any, module: Callable[[str], Any]) -> Any:
    install("0.5.23")
    return module(WRAPPER)


# Its numbers.


def numbers_of(enum: type) -> dict[str, int]:
    return {name: value for name, value in vars(enum).items() if name.startswith("nccl")}


def test_codes_are_those_of_the_header(wrapper: Any) -> None:
    assert numbers_of(wrapper.ncclDataTypeEnum) == {**DATA_TYPES, "ncclNumTypes": 10}
    assert numbers_of(wrapper.ncclRedOpTypeEnum) == {**REDUCTIONS, "ncclNumOps": 5}
    constants = ("NCCL_CONFIG_UNDEF_INT", "NCCL_CONFIG_UNDEF_PTR", "NCCL_API_MAGIC", "NCCL_CTA_POLICY_ZERO")
    assert [getattr(wrapper, name) for name in constants] == [-(2**31), None, 0xCAFEBEEF, 2]


def test_every_type_of_torch_has_its_code_or_is_refused(wrapper: Any) -> None:
    dtypes = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    assert len(dtypes) > 20
    for dtype in dtypes:
        if dtype in TYPE_CODES:
            assert wrapper.ncclDataTypeEnum.from_torch(dtype) == TYPE_CODES[dtype]
        else:
            with pytest.raises(ValueError, match=re.escape(f"Unsupported dtype: {dtype}")):
                wrapper.ncclDataTypeEnum.from_torch(dtype)


def test_every_reduction_of_torch_has_its_code_or_is_refused(wrapper: Any) -> None:
    found = [ReduceOp.SUM, ReduceOp.PRODUCT, ReduceOp.MAX, ReduceOp.MIN, ReduceOp.AVG]
    assert [wrapper.ncclRedOpTypeEnum.from_torch(op) for op in found] == [0, 1, 2, 3, 4]
    assert wrapper.ncclRedOpTypeEnum.from_torch(ReduceOp(ReduceOp.MAX)) == 2
    for op in (ReduceOp.BAND, ReduceOp.BOR, ReduceOp.BXOR, ReduceOp.PREMUL_SUM):
        with pytest.raises(ValueError, match="Unsupported op"):
            wrapper.ncclRedOpTypeEnum.from_torch(op)


def test_structures_lie_in_memory_as_in_c(wrapper: Any) -> None:
    config = wrapper.ncclConfig_t
    assert {name: getattr(config, name).offset for name, *_ in config._fields_} == CONFIG_OFFSETS
    assert (ctypes.sizeof(config), ctypes.alignment(config)) == (96, 8)
    assert (ctypes.sizeof(wrapper.ncclUniqueId), ctypes.alignment(wrapper.ncclUniqueId)) == (128, 1)


def test_new_configuration_leaves_everything_to_the_library(wrapper: Any) -> None:
    config = wrapper.ncclConfig_t.create()
    told = {name: getattr(config, name) for name in CONFIG_OFFSETS}
    head = {"size": 96, "magic": 0xCAFEBEEF, "version": 23000}
    pointers = {"netName": None, "commName": None}
    assert told == {**dict.fromkeys(CONFIG_OFFSETS, -(2**31)), **head, **pointers}
    assert wrapper.ncclConfig_t.create() is not config


def test_numbers_of_the_host_library_are_those_of_the_header() -> None:
    names = {f"nccl{kind.name.capitalize()}": code for code, kind in enumerate(codes.TYPES)}
    assert {name: code for name, code in names.items() if "Float8" not in name} == {
        name: DATA_TYPES[name] for name in names if "Float8" not in name
    }
    assert [kind.size for kind in codes.TYPES] == [1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1]
    assert {f"nccl{name.capitalize()}": code for code, name in enumerate(codes.OPERATIONS)} == REDUCTIONS
    assert {int(code): text for code, text in codes.TEXTS.items()} == {n: TEXTS[n] for n in range(9)}
    assert TEXTS[-1] == codes.UNKNOWN_RESULT
    assert (codes.UNIQUE_ID_BYTES, codes.CONFIG_MAGIC, codes.UNDEFINED) == (128, 0xCAFEBEEF, -(2**31))
    assert len(unique_id.make()) == 128


@pytest.mark.parametrize(
    ("raw", "text"),
    [(2708, "2.7.8"), (2804, "2.8.4"), (20905, "2.9.5"), (21903, "2.19.3"), (22809, "2.28.9"), (23203, "2.32.3")],
)
def test_version_as_text(wrapper: Any, monkeypatch: pytest.MonkeyPatch, raw: int, text: str) -> None:
    monkeypatch.setattr(wrapper.NCCLLibrary, "ncclGetRawVersion", lambda self: raw)
    assert wrapper.NCCLLibrary("host").ncclGetVersion() == text


# How a library is found.


def test_library_is_found_by_the_caller_a_hook_the_environment_and_the_device_in_this_order(
    wrapper: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "hook.so"
    with pytest.raises(ValueError, match=PATH_VARIABLE):
        wrapper.NCCLLibrary()
    monkeypatch.setenv(PATH_VARIABLE, "host")
    file = sglang_host_nccl.__file__
    assert wrapper.find_nccl_library() == "host"
    assert tuple(wrapper.NCCLLibrary().found) == ("host", PATH_VARIABLE, file, "2.32.3")
    monkeypatch.setenv(PATH_VARIABLE, MISSING)
    assert tuple(wrapper.NCCLLibrary("host").found) == ("host", "the caller", file, "2.32.3")
    hooks = module("sglang.srt.plugins.hook_registry")
    hooks.HookRegistry.register(f"{WRAPPER}.find_nccl_library", lambda: "host", hooks.HookType.REPLACE)
    hooks.HookRegistry.apply_hooks()
    assert tuple(wrapper.NCCLLibrary().found) == ("host", "the platform's hook on find_nccl_library", file, "2.32.3")
    with pytest.raises(OSError, match=missing):
        wrapper.NCCLLibrary(missing)


@pytest.mark.parametrize("variable", [None, ""])
@pytest.mark.parametrize(
    ("hardware", "name"),
    [("cuda", "libnccl.so.2"), ("rocm", "librccl.so.1"), ("musa", "libmccl.so.2"), ("npu", ""), ("xpu", ""), ("", "")],
)
def test_library_of_the_device_in_use(
    wrapper: Any, monkeypatch: pytest.MonkeyPatch, variable: str | None, hardware: str, name: str
) -> None:
    if variable is not None:
        monkeypatch.setenv(PATH_VARIABLE, variable)
    detectors: Any = importlib.import_module("sglang.srt._detection").DETECTORS
    for kind in list(detectors):
        monkeypatch.setitem(detectors, kind, lambda torch, kind=kind: kind == hardware)
    if name:
        assert wrapper.find_nccl_library() == name
    else:
        with pytest.raises(ValueError, match=f"{PATH_VARIABLE}.*hook"):
            wrapper.find_nccl_library()


def test_out_of_tree_platform_gets_no_library_unasked(
    install: Any, module: Callable[[str], Any], platform_plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_plugin("mlu")
    install("0.5.23")
    detectors: Any = module("sglang.srt._detection").DETECTORS
    monkeypatch.setitem(detectors, "cuda", lambda torch: True)
    with pytest.raises(ValueError, match="no library"):
        module(WRAPPER).find_nccl_library()
    monkeypatch.setenv(PATH_VARIABLE, "host")
    assert module(WRAPPER).find_nccl_library() == "host"


def test_library_that_is_not_there_is_an_error_that_names_it_and_who_did(
    wrapper: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(PATH_VARIABLE, MISSING)
    for _ in range(2):  # nothing of the first failure is kept
        with caplog.at_level(logging.ERROR), pytest.raises(OSError, match=MISSING):
            wrapper.NCCLLibrary()
        [record] = caplog.records
        assert MISSING in record.getMessage()
        assert PATH_VARIABLE in record.getMessage()
        caplog.clear()


def test_library_of_another_kind_is_an_error_that_names_what_lacks(wrapper: Any) -> None:
    with pytest.raises(OSError, match="libc") as caught:
        wrapper.NCCLLibrary("libc.so.6")
    for function in ("ncclGetVersion", "ncclAllReduce", "ncclGroupEnd"):
        assert function in str(caught.value)
    assert "ncclMemAlloc" not in str(caught.value)  # of which a library need not have any


def test_function_that_a_library_need_not_have_is_missed_when_it_is_called(wrapper: Any) -> None:
    found = wrapper.NCCLLibrary("host")
    found._funcs = {name: call for name, call in found._funcs.items() if "Window" not in name}
    with pytest.raises(RuntimeError, match=r"sglang_host_nccl.* has no function ncclCommWindowRegister"):
        found.ncclCommWindowRegister(None, None, 0, 0)


# Errors.


@pytest.mark.parametrize(
    ("call", "whose", "last", "said"),
    [
        ("", "", None, "NCCL error: invalid usage (run with NCCL_DEBUG=WARN for details)"),
        ("ncclSend", "", b"", "NCCL error in ncclSend: invalid usage (run with NCCL_DEBUG=WARN for details)"),
        (
            "ncclSend",
            "rank 1 of 2",
            b"peer 7",
            "NCCL error in ncclSend on rank 1 of 2: invalid usage (run with NCCL_DEBUG=WARN for details) (peer 7)",
        ),
    ],
)
def test_error_says_the_call_the_rank_and_the_librarys_words(
    wrapper: Any, call: str, whose: str, last: bytes | None, said: str
) -> None:
    found = wrapper.NCCLLibrary("host")
    found.whose = whose
    others = {name: each for name, each in found._funcs.items() if name != "ncclGetLastError"}
    found._funcs = others if last is None else {**others, "ncclGetLastError": lambda comm: last}
    found.NCCL_CHECK(0, call)
    with pytest.raises(RuntimeError) as caught:
        found.NCCL_CHECK(5, call)
    assert str(caught.value) == said


def test_host_library_answers_as_nccl_does(wrapper: Any) -> None:
    found = wrapper.NCCLLibrary("host")
    assert {code: found.ncclGetErrorString(code) for code in TEXTS} == TEXTS
    assert answers(found) == RESULTS
    ids = {bytes(found.ncclGetUniqueId()) for _ in range(10)}
    assert {len(each) for each in ids} == {128}
    assert len(ids) == 10
    assert found.ncclGetRawVersion() == library.VERSION == 23203


# NCCL itself.


class Installed(NamedTuple):
    """NCCL as a package of this environment: the package's version, the library, the header."""

    version: str
    library: Path
    header: str


@pytest.fixture(scope="module")
def nccl() -> Installed:
    for name in ("nvidia-nccl-cu13", "nvidia-nccl-cu12"):
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        files = {Path(file).name: Path(str(file.locate())) for file in package.files or ()}
        if "libnccl.so.2" in files and "nccl.h" in files:
            header = files["nccl.h"].read_text(encoding="utf-8")
            return Installed(package.version, files["libnccl.so.2"], header)
    pytest.skip("NCCL is not installed: pip install --no-deps nvidia-nccl-cu13 (or -cu12)")


@pytest.fixture(scope="module")
def told(nccl: Installed) -> Iterator[dict[str, Any]]:
    """What NCCL answers in a process of its own, which its threads end with, and to which no GPU is shown."""
    with ranks() as pools:
        report = pools.fresh.run("reference.pynccl_itself:asked_of_nccl", {"path": str(nccl.library)}, size=1)
        assert not report.failures, report.text()
        yield report.values[0]


def test_nccl_tells_the_version_of_its_package(nccl: Installed, told: dict[str, Any]) -> None:
    major, minor, patch = map(int, nccl.version.split(".")[:3])
    assert told["version"] == major * 10_000 + minor * 100 + patch
    assert told["found"] == [str(nccl.library), "the caller", str(nccl.library), f"{major}.{minor}.{patch}"]


def test_nccl_makes_ids_that_differ(told: dict[str, Any]) -> None:
    first, second = (bytes.fromhex(each) for each in told["ids"])
    assert (len(first), len(second)) == (128, 128)
    assert first != second


def test_texts_of_nccl_are_those_of_the_host_library(told: dict[str, Any]) -> None:
    texts = {int(code): text for code, text in told["texts"].items()}
    if told["version"] < 23200:
        texts[codes.Result.TIMEOUT] = TEXTS[8]  # which it does not know yet
    assert texts == {code: codes.TEXTS.get(code, TEXTS[-1]) for code in texts}


def test_nccl_refuses_what_the_host_library_refuses(told: dict[str, Any]) -> None:
    assert told["answers"] == RESULTS


def test_errors_of_nccl_tell_its_own_words(told: dict[str, Any]) -> None:
    for call in ("ncclCommInitRank", "ncclCommInitRankConfig"):
        kind, said = told[call]
        assert kind == "RuntimeError"
        assert said.startswith(f"NCCL error in {call}: {TEXTS[1]} (Cuda failure ")
    kind, said = told["ncclGroupEnd"]
    assert (kind, said) == (
        "RuntimeError",
        f"NCCL error in ncclGroupEnd: {TEXTS[5]} (ncclGroupEnd: not in a group call.)",
    )


def test_nccl_has_every_function_that_the_binding_knows(wrapper: Any, told: dict[str, Any]) -> None:
    assert told["functions"] == sorted(each.name for each in wrapper._known_functions())


def enum_in(header: str, name: str) -> dict[str, int]:
    """The names of an enumeration and their numbers."""
    [body] = re.findall(rf"typedef enum\s*\{{([^}}]*)\}}\s*{name};", _bare(header))
    return {each: int(number, 0) for each, number in re.findall(r"(\w+)\s*=\s*(0x[0-9a-fA-F]+|\d+)", body)}


def _bare(header: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL)


def test_numbers_of_the_header_are_those_of_the_binding_and_the_host_library(wrapper: Any, nccl: Installed) -> None:
    types, reductions = enum_in(nccl.header, "ncclDataType_t"), enum_in(nccl.header, "ncclRedOp_t")
    own = numbers_of(wrapper.ncclDataTypeEnum)
    del own["ncclNumTypes"]  # the number of those that NCCL had when SGLang wrote them down
    assert own.items() <= types.items()
    assert {each.replace("ncclFloat8", "ncclFloat8_").lower() for each in set(types) - set(own)} == {
        "ncclnumtypes",
        *(f"nccl{kind.name}".removesuffix("fn") for kind in codes.TYPES[10:]),
    }
    assert types["ncclNumTypes"] == len(codes.TYPES)
    own = numbers_of(wrapper.ncclRedOpTypeEnum)
    assert own.items() <= reductions.items()
    assert len(codes.OPERATIONS) == reductions["ncclNumOps"]
    results = enum_in(nccl.header, "ncclResult_t")
    named = {"nccl" + each.name.title().replace("_", ""): int(each) for each in codes.Result}
    known = results.pop("ncclNumResults")
    assert results == {name: code for name, code in named.items() if code < known}
    constants = dict(re.findall(r"#define\s+(NCCL_\w+)\s+(\w+)", _bare(nccl.header)))
    assert int(constants["NCCL_UNIQUE_ID_BYTES"]) == codes.UNIQUE_ID_BYTES == ctypes.sizeof(wrapper.ncclUniqueId)
    [magic] = set(re.findall(r"0xcafebeef", nccl.header, re.IGNORECASE))  # which has had a name since NCCL 2.28
    assert int(magic, 16) == codes.CONFIG_MAGIC == wrapper.NCCL_API_MAGIC
    assert int(constants.get("NCCL_CTA_POLICY_ZERO", "2"), 16) == wrapper.NCCL_CTA_POLICY_ZERO  # likewise


def test_fields_of_the_headers_configuration_are_those_of_the_binding(wrapper: Any, nccl: Installed) -> None:
    [body] = re.findall(r"typedef struct ncclConfig_v\d+\s*\{([^}]*)\}\s*ncclConfig_t;", _bare(nccl.header))
    kinds: dict[str, Any] = {"size_t": ctypes.c_size_t, "unsigned int": ctypes.c_uint, "int": ctypes.c_int}
    kinds["const char *"] = ctypes.c_char_p
    fields = [
        (name, kinds[" ".join(kind.split()) + (" *" if star else "")])
        for kind, star, name in re.findall(r"([\w\s]+?)\s*(\*?)\s*(\w+);", body)
    ]
    own = [(name, *kind) for name, *kind in wrapper.ncclConfig_t._fields_]
    both = min(len(fields), len(own))
    assert fields[:both] == own[:both]  # fields are only ever added, at the end
    assert both >= 15  # those of NCCL 2.27


def test_parameters_of_the_headers_functions_are_those_of_the_binding_and_the_host_library(
    wrapper: Any, nccl: Installed
) -> None:
    header = _bare(nccl.header)
    prototypes = dict(re.findall(r"\b(nccl\w+)\(([^)]*)\);", header))
    for each in wrapper._known_functions():
        wanted = [_passed(parameter) for parameter in prototypes[each.name].split(",") if parameter.strip()]
        assert [_kind(kind) for kind in each.argtypes] == wanted, each.name
    hosts = {name: kinds for name, (kinds, _) in library._CALLS.items()}
    hosts |= {name: (*kinds, ctypes.c_void_p, ctypes.c_void_p) for name, (kinds, _) in library._OPERATIONS.items()}
    for name, kinds in hosts.items():
        wanted = [_passed(parameter) for parameter in prototypes[name].split(",") if parameter.strip()]
        assert [_kind(kind) for kind in kinds] == wanted, name


_HANDLES = ("ncclComm_t", "ncclWindow_t", "cudaStream_t")


def _passed(parameter: str) -> str:
    """How C passes a parameter: as a pointer, a size, an id, or an int, which enumerations are too."""
    words = parameter.replace("const ", "").split()
    if "*" in parameter or words[0] in _HANDLES:
        return "pointer"
    return {"size_t": "size", "ncclUniqueId": "id"}.get(words[0], "int")


def _kind(kind: Any) -> str:
    known = {ctypes.c_void_p: "pointer", ctypes.c_char_p: "pointer", ctypes.c_size_t: "size", ctypes.c_int: "int"}
    if kind in known:
        return known[kind]
    return "id" if kind.__name__ in ("ncclUniqueId", "UniqueId") else "pointer"
