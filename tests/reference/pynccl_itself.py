"""What NCCL itself answers: checks that tests name, for ranks of pynccl_ranks."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from reference.group_ranks import install
from reference.pynccl_ranks import modules, raised
from sglang_conformance.ranks.rank import Rank


def answers(found: Any) -> dict[str, int]:
    """The results of calls that need no communicator."""
    functions, result = found._funcs, ctypes.c_int(-1)
    asked = {
        "all-reduce without a communicator": functions["ncclAllReduce"](None, None, 1, 7, 0, None, None),
        "end of no group": functions["ncclGroupEnd"](),
        "no place for an id": functions["ncclGetUniqueId"](None),
        "no place for a version": functions["ncclGetVersion"](None),
        "destroy nothing": functions["ncclCommDestroy"](None),
        "abort nothing": functions["ncclCommAbort"](None),
        "the error of nothing": functions["ncclCommGetAsyncError"](None, ctypes.byref(result)),
    }
    assert result.value == -1
    return asked


def asked_of_nccl(rank: Rank, path: str) -> dict[str, Any]:
    """What NCCL itself answers where no GPU is to be seen."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    install("0.5.23")
    library = modules().wrapper.NCCLLibrary(path)
    given, outside = library.ncclGetUniqueId(), raised(library.ncclGroupEnd)
    return {
        "found": list(library.found),
        "version": library.ncclGetRawVersion(),
        "ids": [bytes(each).hex() for each in (given, library.ncclGetUniqueId())],
        "texts": {str(code): library.ncclGetErrorString(code) for code in range(-1, 12)},
        "answers": answers(library),
        "functions": sorted(library._funcs),
        "ncclCommInitRank": raised(lambda: library.ncclCommInitRank(1, given, 0)),
        "ncclCommInitRankConfig": raised(lambda: library.ncclCommInitRankConfig(1, given, 0)),
        "ncclGroupEnd": outside,  # before a join that fails, after which NCCL 2.32 takes this thread to be in a group
    }
