from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sglang_simulated import device

FACTORIES: dict[str, Callable[[str], Tensor]] = {
    "zeros": lambda d: torch.zeros(2, 3, device=d),
    "full": lambda d: torch.full((2, 2), 7, device=d),
    "arange": lambda d: torch.arange(5, device=d),
    "linspace": lambda d: torch.linspace(0, 1, 5, device=d),
    "eye": lambda d: torch.eye(3, device=d),
    "tensor": lambda d: torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=d),
    "as_tensor": lambda d: torch.as_tensor([1, 2], device=d),
    "to": lambda d: torch.arange(6.0).view(2, 3).t().to(d),
    "empty_like": lambda d: torch.empty_like(torch.ones(3, 2), device=d).fill_(4),
}

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "arithmetic": lambda x: x * 2 - x / 3 + 1,
    "matmul": lambda x: x @ x.t(),
    "view": lambda x: x.view(-1)[2:],
    "transposed": lambda x: x.t(),
    "contiguous": lambda x: x.t().contiguous(),
    "in_place": lambda x: x.clone().add_(1).mul_(3),
    "in_place_on_view": lambda x: _write_through_view(x.clone()),
    "half": lambda x: x.half(),
    "index": lambda x: x[:, torch.tensor([2, 0])],
    "mask": lambda x: x[x > 2],
    "softmax": lambda x: torch.softmax(x, -1),
    "attention": lambda x: torch.nn.functional.scaled_dot_product_attention(x[None], x[None], x[None]),
    "split": lambda x: torch.split(x, 1)[1],
    "out": lambda x: torch.add(x, x, out=torch.empty(0, device=x.device)),
    "resize": lambda x: x.clone().resize_(2, 2),
    "in_place_transpose": lambda x: x.clone().t_(),
    "number": lambda x: x + torch.tensor(2.0),
}


def _write_through_view(x: Tensor) -> Tensor:
    x[1].zero_()
    return x


@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_gives_the_hosts_values_on_the_device_it_was_asked_for(name: str) -> None:
    device.register()
    made, expected = FACTORIES[name]("sim:1"), FACTORIES[name]("cpu")
    assert made.device == torch.device("sim:1")
    assert (made.shape, made.stride(), made.dtype) == (expected.shape, expected.stride(), expected.dtype)
    assert torch.equal(made.cpu(), expected)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_the_hosts_values_and_layout(name: str) -> None:
    device.register()
    host = torch.arange(6.0).view(2, 3)
    result, expected = OPERATIONS[name](host.to("sim:1")), OPERATIONS[name](host)
    assert result.device == torch.device("sim:1")
    assert (result.shape, result.stride(), result.dtype) == (expected.shape, expected.stride(), expected.dtype)
    assert result.is_contiguous() == expected.is_contiguous()
    assert torch.equal(result.cpu(), expected)


def test_inference_mode_changes_no_result() -> None:
    device.register()
    with torch.inference_mode():
        made = torch.arange(4, device="sim:1").view(2, 2).t_()
        made[0].add_(10)
    assert made.tolist() == [[10, 12], [1, 3]]


def test_values_move_between_devices_and_the_host() -> None:
    device.register()
    a = torch.tensor([1.0, 2.0], device="sim:0")
    b = a.to("sim:1")
    b.mul_(10)
    a.copy_(b)
    host = torch.zeros(2).copy_(a)
    assert host.device.type == "cpu"
    assert (a.tolist(), b.tolist(), host.tolist()) == ([10.0, 20.0], [10.0, 20.0], [10.0, 20.0])
    assert a.sum().item() == 30.0
    assert torch.equal(torch.from_numpy(a.numpy(force=True)), host)


def test_in_place_operations_give_back_the_same_object() -> None:
    device.register()
    a = torch.ones(2, device="sim:0")
    assert a.add_(1) is a
    assert torch.add(a, a, out=a) is a


def test_views_share_their_address_and_storage() -> None:
    device.register()
    a = torch.zeros(4, device="sim:0")
    assert a.data_ptr() != 0
    assert a[1:].data_ptr() == a.data_ptr() + a.element_size()
    assert a[1:].untyped_storage().data_ptr() == a.untyped_storage().data_ptr()
    assert torch.zeros(4, device="sim:0").data_ptr() != a.data_ptr()


def test_a_model_moves_and_gradients_flow() -> None:
    device.register()
    layer = torch.nn.Linear(3, 1)
    weight = layer.weight.detach().clone()
    moved = layer.to("sim:0")
    loss = moved(torch.ones(1, 3, device="sim:0")).sum() * 2
    loss.backward()
    assert moved.weight.device == torch.device("sim:0")
    assert torch.equal(moved.weight.detach().cpu(), weight)
    assert moved.weight.grad is not None
    assert moved.weight.grad.tolist() == [[2.0, 2.0, 2.0]]


def test_tensors_copy_deeply_pickle_and_print() -> None:
    device.register()
    a = torch.tensor([1.0, 2.0], device="sim:1")
    for twin in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        twin.add_(1)
        assert twin.device == a.device
        assert (a.tolist(), twin.tolist()) == ([1.0, 2.0], [2.0, 3.0])
    assert repr(a) == "tensor([1., 2.], device='sim:1')"


def test_tensors_of_two_devices_do_not_mix() -> None:
    device.register()
    a = torch.ones(2, device="sim:0")
    with pytest.raises(RuntimeError, match="sim:0, sim:1"):
        a + a.to("sim:1")
    with pytest.raises(RuntimeError, match="cpu, sim:0"):
        a + torch.ones(2)


def test_a_device_that_is_not_there_is_refused() -> None:
    device.register()
    with pytest.raises(RuntimeError, match="no device sim:4"):
        torch.ones(1, device="sim:4")


def test_a_tensor_is_no_array_without_a_copy() -> None:
    device.register()
    with pytest.raises(TypeError, match=r"\.cpu\(\)"):
        torch.ones(1, device="sim:0").numpy()


def test_random_numbers_belong_to_the_device() -> None:
    device.register()
    torch.manual_seed(5)
    host = torch.rand(3)
    torch.manual_seed(5)
    first = torch.rand(3, device="sim:0")
    assert torch.equal(torch.rand(3), host)  # drawing on the device left the host's sequence alone
    state = torch.sim.get_rng_state("sim:0")  # type: ignore[attr-defined]
    second = torch.rand(3, device="sim:0")
    torch.sim.set_rng_state(state, "sim:0")  # type: ignore[attr-defined]
    assert torch.equal(torch.rand(3, device="sim:0"), second)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3, device="sim:0"), first)
    assert not torch.equal(first, second)


def test_registration_happens_once_and_not_at_import() -> None:
    import sglang_simulated.device_module
    import sglang_simulated.distributed
    import sglang_simulated.graph_runner

    assert torch._C._get_privateuse1_backend_name() == "privateuseone"
    assert not hasattr(torch, "sim")
    device.register()
    device.register()
    assert torch.get_device_module("sim") is sglang_simulated.device_module
    assert torch.ones(1).is_sim is False  # type: ignore[attr-defined]


def test_registration_says_who_took_the_place() -> None:
    torch.utils.rename_privateuse1_backend("other")  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="taken by 'other'"):
        device.register()


def test_an_operator_with_a_kernel_for_the_device_is_given_the_devices_tensors() -> None:
    device.register()
    library: Any = torch.library.Library("simulated_test", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define("twice(Tensor(a!) x) -> ()")
    seen: list[torch.device] = []

    def twice(x: Tensor) -> None:
        seen.append(x.device)
        x.mul_(2)

    library.impl("twice", twice, "PrivateUse1")
    x = torch.ones(2, device="sim:1")
    torch.ops.simulated_test.twice(x)
    assert (x.tolist(), seen) == ([2.0, 2.0], [torch.device("sim:1")])
