"""Hooks into SGLang, for what its platform interface does not reach in every release.

A hook is the last resort: it depends on a name in SGLang's code that may move. Each says when it can go.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

BACKEND_OF_DEVICE = "sglang.srt.distributed.parallel_state.get_default_distributed_backend"
COMMUNICATOR = "sglang.srt.distributed.device_communicators.pynccl.PyNcclCommunicator"
JOIN = "sglang.srt.distributed.parallel_state.init_distributed_environment"
CUSTOM_ALL_REDUCE = "sglang.srt.distributed.device_communicators.custom_all_reduce.dispatch_custom_allreduce"


def register() -> None:
    """Register the hooks. The entry point of group ``sglang.srt.plugins``, run in every SGLang process.

    It only registers: SGLang applies the hooks itself, once all plugins have had their turn.
    """
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(BACKEND_OF_DEVICE, backend_of_device, HookType.AROUND)
    HookRegistry.register(JOIN, serve_operators, HookType.BEFORE)
    HookRegistry.register(f"{COMMUNICATOR}.__init__", make_communicator, HookType.AROUND)
    HookRegistry.register(f"{COMMUNICATOR}._resolve_stream", resolve_stream, HookType.REPLACE)
    HookRegistry.register(CUSTOM_ALL_REDUCE, class_of_custom_all_reduce, HookType.AROUND)


def backend_of_device(original: Callable[..., str], device: str, *args: Any, **kwargs: Any) -> str:
    """Answer for our device, and leave every other to SGLang.

    Up to 0.5.13 SGLang has a fixed table of devices and gives the unknown ones gloo, which cannot carry device
    tensors. From 0.5.14 on it asks the platform and gets the same answer, so the hook can go once those are gone.
    """
    if device != "sim":
        return original(device, *args, **kwargs)
    from sglang_simulated import device as torch_device
    from sglang_simulated import distributed

    torch_device.register()
    distributed.register()
    return distributed.BACKEND_STRING


def serve_operators(*args: Any, **kwargs: Any) -> None:
    """Have SGLang's operators on our device before there are groups to use them.

    Up to 0.5.22 SGLang has them for its own devices alone, and refuses our tensors; this can go once those are gone.
    """
    from sglang.srt.platforms import current_platform

    if current_platform.device_name == "sim":
        from sglang_simulated import operators

        operators.serve()


def make_communicator(original: Callable[..., None], communicator: Any, *args: Any, **kwargs: Any) -> None:
    """Make SGLang's PyNCCL communicator on our device.

    SGLang's own, up to 0.5.23, speaks of torch.cuda; this can go once it goes by the platform's device module.
    """
    from sglang_simulated import pynccl

    pynccl.make(communicator, *args, **kwargs)


def resolve_stream(communicator: Any) -> Any:
    """The stream for that communicator's work. Can go with the other."""
    from sglang_simulated import pynccl

    return pynccl.resolve_stream(communicator)


def class_of_custom_all_reduce(original: Callable[..., type], *args: Any, **kwargs: Any) -> type:
    """Our class, where our platform is the active one and has it; else SGLang's choice.

    SGLang, up to 0.5.23, knows the devices that it has a class for. The arguments, the group and the device from
    0.5.13 on, do not tell whose it is: the device of an out-of-tree platform's groups is the CPU before 0.5.23.
    """
    from sglang.srt.platforms import current_platform

    from sglang_simulated import hardware

    if current_platform.device_name != "sim" or not hardware.has_all_reduce():
        return original(*args, **kwargs)
    from sglang_simulated.custom_all_reduce import SimCustomAllreduce

    return SimCustomAllreduce
