"""The current device of a worker, and which members of the platform leave it as it is.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import expect
from . import worker

Call = tuple[str, tuple[Any, ...]]


def of_a_worker(device: Any) -> list[Call]:
    """What SGLang's worker on that device calls on its way, and takes no device to be chosen by.

    The memory questions are judged with memory.
    """
    import torch

    index, model = device.index, torch.nn.Linear(4, 3, device=device)
    return [
        ("get_device", (index,)),
        ("get_device", (None,)),
        ("is_pin_memory_available", ()),
        ("get_device_uuid", (index,)),
        ("get_device_capability", ()),
        ("get_torch_distributed_backend_str", ()),
        ("get_group_coordinator_device", (index,)),
        ("post_load_model", (model,)),
        ("synchronize", ()),
        ("empty_cache", ()),
    ]


def of_others(index: int) -> list[Call]:
    """What may be called besides, about the device of that index too: by the launcher, by tools and tests."""
    about = ("get_device", "get_device_name", "get_device_uuid", "get_device_capability")
    memory = ("get_device_total_memory", "get_available_memory")
    return [*((member, (index,)) for member in (*about, *memory)), ("seed_everything", (1,)), ("init_backend", ())]


def stays(platform: Any, device: Any, calls: Sequence[Call]) -> None:
    """Make each call with ``device`` current; a violation where it is not afterwards. What they raise is no matter."""
    module = worker.module_of(platform)
    for member, args in calls:
        worker.make_current(platform, device)
        try:
            getattr(platform, member)(*args)
        except Exception:
            continue  # which the member's own requirements report
        call = f"torch.{device.type}.set_device({device.index}); {expect.spell(member, args)}; current_device()"
        expect.equal(module.current_device(), device.index, call=call, where=expect.place_of(platform, member))
