"""SGLang's own operators on the simulated device, in the releases that have them for other devices alone.

SGLang makes operators of its collectives and registers them for CUDA's dispatch key, up to 0.5.22 also where the
platform is an out-of-tree one (srt/utils/common.py): such a device's tensors are refused. From 0.5.23 on it registers
them for the key that all out-of-tree devices share, and there is nothing to do here.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

_THEIRS = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
_OURS = "PrivateUse1"


def serve() -> None:
    """Give each operator of SGLang's that has a kernel for CUDA, and none for our device, the same kernel there.

    The kernel is SGLang's Python function, which goes back to the group; nothing in it is CUDA's.
    """
    for name in torch._C._dispatch_get_registrations_for_dispatch_key("CUDA"):
        namespace, _, operator = name.partition("::")
        if namespace == "sglang" and not torch._C._dispatch_has_kernel_for_dispatch_key(name, _OURS):
            packet, _, overload = operator.partition(".")
            theirs = getattr(getattr(torch.ops.sglang, packet), overload or "default")
            _library().impl(operator, functools.partial(_run, theirs), _OURS)  # type: ignore[no-untyped-call]


def _run(operator: Any, *args: Any, **kwargs: Any) -> Any:
    return operator.redispatch(_THEIRS, *args, **kwargs)


@functools.cache
def _library() -> torch.library.Library:
    """What holds our kernels: they last as long as it does."""
    return torch.library.Library("sglang", "IMPL")  # type: ignore[no-untyped-call]
