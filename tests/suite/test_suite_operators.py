"""An operator of SGLang's without a kernel for the platform's device is SGLang's matter, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sglang_conformance.suite import execute, expect


class Platform:
    device_type = "privateuseone"

    def __init__(self, *, out_of_tree: bool = True) -> None:
        self.is_out_of_tree = lambda: out_of_tree


@pytest.fixture
def library() -> Iterator[torch.library.Library]:
    made = torch.library.Library("sglang", "FRAGMENT")  # type: ignore[no-untyped-call]
    made.define("lacking(Tensor x) -> ()")  # type: ignore[no-untyped-call]
    yield made
    made._destroy()  # type: ignore[no-untyped-call]


def reduce() -> None:
    torch.ops.sglang.lacking(torch.ones(1))


def found(body: Any, **given: Any) -> dict[str, Any]:
    return execute.call(body, {"host": "installed", "platform": Platform(), **given})


def test_operator_that_sglang_has_for_cuda_alone_is_a_defect_of_the_host(library: torch.library.Library) -> None:
    library.impl("lacking", lambda x: None, "CUDA")  # type: ignore[no-untyped-call]
    told = found(lambda: expect.attempt("all_reduce()", reduce))
    assert told["outcome"] == "host-defect"
    assert "sglang::lacking for CUDA alone, not for privateuseone" in told["message"]
    assert found(reduce)["outcome"] == "host-defect"


@pytest.mark.parametrize(
    "given", [{"host": "reference"}, {"platform": Platform(out_of_tree=False)}, {"platform": None}]
)
def test_it_is_a_failure_elsewhere(given: dict[str, Any], library: torch.library.Library) -> None:
    library.impl("lacking", lambda x: None, "CUDA")  # type: ignore[no-untyped-call]
    with pytest.raises(expect.Violation):
        found(lambda: expect.attempt("all_reduce()", reduce), **given)


def test_kernel_that_refuses_is_its_plugins_matter(library: torch.library.Library) -> None:
    for key in ("CUDA", "PrivateUse1"):
        library.impl("lacking", lambda x: None, key)  # type: ignore[no-untyped-call]
    with pytest.raises(expect.Violation):  # tensors of the host, not of the device
        found(lambda: expect.attempt("all_reduce()", reduce))


def test_operator_that_nobody_has_is_no_defect_of_the_host(library: torch.library.Library) -> None:
    with pytest.raises(NotImplementedError):
        found(reduce)


def test_what_says_so_without_being_so_is_a_failure() -> None:
    def pretend() -> None:
        raise NotImplementedError("Could not run 'sglang::invented' with arguments from the 'CPU' backend. Alas")

    with pytest.raises(NotImplementedError):
        found(pretend)
