"""The types, structures and codes of NCCL's C API, under the names that SGLang gives them in ``pynccl_wrapper``.

Facts: nccl.h of NCCL 2.30 and 2.32; SGLang 0.5.23, srt/distributed/device_communicators/pynccl_wrapper.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import torch
from torch.distributed import ReduceOp

ncclResult_t = ctypes.c_int
ncclComm_t = ctypes.c_void_p
ncclWindow_t = ctypes.c_void_p
ncclDataType_t = ctypes.c_int
ncclRedOp_t = ctypes.c_int
cudaStream_t = ctypes.c_void_p
buffer_type = ctypes.c_void_p

NCCL_CONFIG_UNDEF_INT = -(2**31)
NCCL_CONFIG_UNDEF_PTR = None
NCCL_API_MAGIC = 0xCAFEBEEF
NCCL_CONFIG_VERSION = 23000
"""The version whose ``ncclConfig_t`` this is: a library reads no field that it does not know, and later ones less."""
NCCL_CTA_POLICY_ZERO = 0x02

_CONFIG_INTS = ("blocking", "cgaClusterSize", "minCTAs", "maxCTAs")
_CONFIG_MORE_INTS = (
    "collnetEnable",
    "CTAPolicy",
    "shrinkShare",
    "nvlsCTAs",
    "nChannelsPerNetPeer",
    "nvlinkCentricSched",
    "graphUsageMode",
    "numRmaCtx",
    "maxP2pPeers",
)


class ncclConfig_t(ctypes.Structure):
    """How a communicator is to be made; a field left undefined is the library's to choose."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("magic", ctypes.c_uint),
        ("version", ctypes.c_uint),
        *((name, ctypes.c_int) for name in _CONFIG_INTS),
        ("netName", ctypes.c_char_p),
        ("splitShare", ctypes.c_int),
        ("trafficClass", ctypes.c_int),
        ("commName", ctypes.c_char_p),
        *((name, ctypes.c_int) for name in _CONFIG_MORE_INTS),
    ]

    @classmethod
    def create(cls) -> ncclConfig_t:
        """One with every field undefined, as ``NCCL_CONFIG_INITIALIZER`` has it."""
        config = cls(ctypes.sizeof(cls), NCCL_API_MAGIC, NCCL_CONFIG_VERSION)
        for name, *kind in cls._fields_[3:]:
            setattr(config, name, NCCL_CONFIG_UNDEF_INT if kind == [ctypes.c_int] else NCCL_CONFIG_UNDEF_PTR)
        return config


class ncclUniqueId(ctypes.Structure):
    """The 128 bytes by which the ranks of a communicator find each other."""

    _fields_ = [("internal", ctypes.c_byte * 128)]


class ncclDataTypeEnum:
    """NCCL's codes of types, those that it had before 2.24."""

    ncclInt8 = ncclChar = 0
    ncclUint8 = 1
    ncclInt32 = ncclInt = 2
    ncclUint32 = 3
    ncclInt64 = 4
    ncclUint64 = 5
    ncclFloat16 = ncclHalf = 6
    ncclFloat32 = ncclFloat = 7
    ncclFloat64 = ncclDouble = 8
    ncclBfloat16 = 9
    ncclNumTypes = 10

    @classmethod
    def from_torch(cls, dtype: torch.dtype) -> int:
        """The code of a type; raises ValueError for one that has none here."""
        name = _TYPES.get(dtype)
        if name is None:
            raise ValueError(f"Unsupported dtype: {dtype}; there are {', '.join(map(str, _TYPES))}")
        code: int = getattr(cls, name)
        return code


_TYPES: Mapping[torch.dtype, str] = {
    torch.int8: "ncclInt8",
    torch.uint8: "ncclUint8",
    torch.int32: "ncclInt32",
    torch.int64: "ncclInt64",
    torch.float16: "ncclFloat16",
    torch.float32: "ncclFloat32",
    torch.float64: "ncclFloat64",
    torch.bfloat16: "ncclBfloat16",
}


class ncclRedOpTypeEnum:
    """NCCL's codes of reductions."""

    ncclSum = 0
    ncclProd = 1
    ncclMax = 2
    ncclMin = 3
    ncclAvg = 4
    ncclNumOps = 5

    @classmethod
    def from_torch(cls, op: ReduceOp.RedOpType) -> int:
        """The code of a reduction; raises ValueError for one that has none."""
        for known, name in _REDUCTIONS:
            if op == known:
                code: int = getattr(cls, name)
                return code
        raise ValueError(f"Unsupported op: {op}; there are {', '.join(str(known) for known, _ in _REDUCTIONS)}")


# In pairs: ReduceOp has an equality but no hash that goes with it.
_REDUCTIONS = (
    (ReduceOp.SUM, "ncclSum"),
    (ReduceOp.PRODUCT, "ncclProd"),
    (ReduceOp.MAX, "ncclMax"),
    (ReduceOp.MIN, "ncclMin"),
    (ReduceOp.AVG, "ncclAvg"),
)
