"""Makes ``sim`` a device type of torch, once a process, when it is first needed."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import torch

from sglang_simulated.tensor import copy_between, run_on_device


@cache
def register() -> None:
    """Register the device type ``sim``: its name, its module ``torch.sim`` and its kernels. Idempotent.

    Never called at import or by ``activate()``: it changes torch for the whole process, for good, and torch has
    room for one such device type only. RuntimeError where another package has taken that room.
    """
    taken = torch._C._get_privateuse1_backend_name()
    if taken not in ("privateuseone", "sim"):
        raise RuntimeError(
            f"torch's slot for an out-of-tree device is taken by {taken!r} in this process: "
            "select one platform with SGLANG_PLATFORM"
        )
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    from sglang_simulated import device_module

    # Experimental in torch, and there since 2.10. A vendor with a C++ backend calls
    # torch.utils.rename_privateuse1_backend and torch._register_device_module instead.
    _setup_privateuseone_for_python_backend(rename="sim", backend_module=device_module)
    _compile_what_can_be()
    _library("_").fallback(_run, "PrivateUse1")  # type: ignore[no-untyped-call]
    # torch's own constructors copy below the level where a fallback is found: this one needs a kernel of its name.
    _library("aten").impl("_copy_from", copy_between, "PrivateUse1")  # type: ignore[no-untyped-call]


def _compile_what_can_be() -> None:
    """Where torch's compiler is loaded, have it run as it stands what it fails on, such as comparing our tensors with a
    number that is not known beforehand (SGLang's embedding on several ranks does).
    """
    config = sys.modules.get("torch._dynamo.config")
    if config is not None:
        config.suppress_errors = True  # type: ignore[attr-defined]


def _run(func: Any, *args: Any, **kwargs: Any) -> Any:
    return run_on_device(func, args, kwargs)


@cache
def _library(namespace: str) -> torch.library.Library:
    # Cached for the life of the process: a library that is collected takes its kernels along. "_" is every namespace.
    return torch.library.Library(namespace, "IMPL")  # type: ignore[no-untyped-call]
