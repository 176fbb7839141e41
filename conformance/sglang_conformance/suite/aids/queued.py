"""Work that is queued on a device, and how to tell that it is done: by values and by torch's events, never by time.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any


def copy_of_fives(device: Any) -> Any:
    """Host memory to which a copy is under way, not waited for, of fives that the device is still computing."""
    import torch

    work = torch.ones(8 << 20, device=device)
    target = host_buffer(work)
    for _ in range(4):
        work.add_(1)
    target.copy_(work, non_blocking=True)
    return target


def host_buffer(like: Any) -> Any:
    """Host memory to copy to without blocking, full of -1: pinned where that can be had."""
    import torch

    try:
        return torch.full(like.shape, -1.0, pin_memory=True)
    except RuntimeError:
        return torch.full(like.shape, -1.0)


def marks(device: Any) -> list[Any]:
    """Events behind all work of the current device: on its current stream, and on another that goes on from there.

    The stream is made as SGLang makes it, without naming a device: not every vendor's takes one.
    """
    import torch

    module = torch.get_device_module(device)
    if device.type == "cpu" or not all(hasattr(module, name) for name in ("Event", "Stream", "stream")):
        return []
    here, aside = module.Event(), module.Event()
    here.record()
    side = module.Stream()
    with module.stream(side):
        side.wait_event(here)
        torch.ones(1 << 20, device=device).mul_(2)
        aside.record()
    return [here, aside]
