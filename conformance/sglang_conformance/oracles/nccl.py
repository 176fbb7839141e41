"""The numbers of NCCL's API, as its header has them since 2.10.

Facts: nccl.h of NCCL 2.32.3, https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api/types.html
"""

from __future__ import annotations

from collections.abc import Mapping

UNIQUE_ID_BYTES = 128
INVALID_ARGUMENT = 4

TYPES: Mapping[str, int] = {
    "int8": 0,
    "uint8": 1,
    "int32": 2,
    "int64": 4,
    "float16": 6,
    "float32": 7,
    "float64": 8,
    "bfloat16": 9,
}
"""``ncclDataType_t``, by torch's names, as far as SGLang names them."""

NAMED_TYPES: Mapping[str, int] = {
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
"""The same, by the header's names."""

REDUCTIONS: Mapping[str, int] = {"SUM": 0, "PRODUCT": 1, "MAX": 2, "MIN": 3, "AVG": 4}
"""``ncclRedOp_t``, by the names of torch's ReduceOp."""

NAMED_REDUCTIONS: Mapping[str, int] = {"ncclSum": 0, "ncclProd": 1, "ncclMax": 2, "ncclMin": 3, "ncclAvg": 4}
"""The same, by the header's names."""
