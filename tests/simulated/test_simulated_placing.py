from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sglang_simulated import device

PLACED: dict[str, Callable[[], Tensor]] = {
    "to": lambda: torch.ones(2).to("sim"),
    "to by name": lambda: torch.ones(2).to(device="sim"),
    "to a device": lambda: torch.ones(2).to(torch.device("sim"), torch.float64),
    "to, from the same": lambda: torch.ones(2, device="sim:2").to("sim"),
    "tensor": lambda: torch.tensor([1, 2], device="sim"),
    "as_tensor": lambda: torch.as_tensor([1, 2], device="sim"),
    "asarray": lambda: torch.asarray([1, 2], device="sim"),
    "new_tensor": lambda: torch.ones(2).new_tensor([1, 2], device="sim"),
    "sim": lambda: torch.ones(2).sim(),  # type: ignore[attr-defined]
    "a module": lambda: torch.nn.Linear(2, 2).to("sim").weight,
    "empty": lambda: torch.empty(2, device="sim"),
    "arange": lambda: torch.arange(2, device="sim"),
    "full_like": lambda: torch.full_like(torch.ones(2), 3, device="sim"),
    "in a context": lambda: _in_a_context(),
}


def _in_a_context() -> Tensor:
    with torch.device("sim"):
        return torch.tensor([1, 2])


@pytest.mark.parametrize("name", PLACED)
def test_without_an_index_a_tensor_goes_to_the_current_device(name: str) -> None:
    device.register()
    module = torch.get_device_module("sim")
    for current in (2, 0, 2):
        module.set_device(current)
        assert PLACED[name]().device == torch.device("sim", current)


def test_an_index_is_obeyed_whatever_is_current() -> None:
    device.register()
    torch.get_device_module("sim").set_device(2)
    assert torch.ones(2).to("sim:1").device == torch.device("sim:1")
    assert torch.tensor([1], device=torch.device("sim", 0)).device == torch.device("sim:0")
    assert torch.ones(2, device="sim:1").to(torch.float64).device == torch.device("sim:1")
    assert torch.ones(2).to("cpu").device == torch.device("cpu")


def test_each_thread_has_its_own_current_device() -> None:
    device.register()
    torch.get_device_module("sim").set_device(2)
    seen: list[Tensor] = []

    def place() -> None:
        seen.append(torch.ones(2).to("sim"))
        torch.get_device_module("sim").set_device(1)
        seen.append(torch.ones(2).to("sim"))

    thread = threading.Thread(target=place)
    thread.start()
    thread.join()
    assert [tensor.device.index for tensor in seen] == [0, 1]
    assert torch.ones(2).to("sim").device == torch.device("sim:2")


def test_the_device_of_a_scope_is_left_with_it() -> None:
    device.register()
    module = torch.get_device_module("sim")
    with torch.device("sim"):
        with module.device(1):
            inside = torch.tensor([1])
        after = torch.tensor([1])
    assert (inside.device.index, after.device.index) == (1, 0)
    assert torch.tensor([1]).device.type == "cpu"


def test_torchs_default_device_comes_and_goes() -> None:
    device.register()
    module = torch.get_device_module("sim")
    torch.set_default_device("sim:1")
    module.set_device(2)
    assert (torch.tensor([1]).device.index, torch.ones(1, device="cpu").to("sim").device.index) == (1, 2)
    torch.set_default_device(None)
    assert (torch.tensor([1]).device.type, torch.ones(1).to("sim").device.index) == ("cpu", 2)
