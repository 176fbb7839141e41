"""SGLang's operators on the simulated device: those that SGLang has for CUDA alone, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sglang_simulated import device, operators


def _defined(namespace: str, **kernels: Callable[..., Any]) -> torch.library.Library:
    """An operator of that namespace that adds to a tensor in place, with a kernel for each of these dispatch keys."""
    library = torch.library.Library(namespace, "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define("add_in_place(Tensor(a!) x, int by) -> ()")  # type: ignore[no-untyped-call]
    for key, kernel in kernels.items():
        library.impl("add_in_place", kernel, key)  # type: ignore[no-untyped-call]
    return library


def _add(x: torch.Tensor, by: int) -> None:
    x.add_(by)


def _served(namespace: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"{namespace}::add_in_place", "PrivateUse1")


def test_operator_that_sglang_has_for_cuda_alone_takes_our_tensors() -> None:
    device.register()
    library = _defined("sglang", CUDA=_add)
    operators.serve()
    x = torch.ones(3, device="sim:0")
    torch.ops.sglang.add_in_place(x, by=4)
    assert x.tolist() == [5.0, 5.0, 5.0]
    operators.serve()  # once more is no error
    del library


def test_kernel_that_sglang_has_for_out_of_tree_devices_is_kept() -> None:
    device.register()
    library = _defined("sglang", CUDA=_add, PrivateUse1=lambda x, by: x.sub_(by) and None)
    operators.serve()
    x = torch.ones(1, device="sim:0")
    torch.ops.sglang.add_in_place(x, 4)
    assert x.tolist() == [-3.0]
    del library


def test_operators_of_others_are_left_alone() -> None:
    libraries = [_defined("another", CUDA=_add), _defined("sgl_kernel", CUDA=_add)]
    operators.serve()
    assert not _served("another")
    assert not _served("sgl_kernel")
    del libraries
