"""Groups of torch.distributed: a backend's string taken apart, SGLang's choice of it, and one rank's life in a group.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any

from .. import expect
from . import worker

HOOKED = "a hook on SGLang's get_default_distributed_backend answers for it"
_LOOKUP = "sglang.srt.distributed.parallel_state.get_default_distributed_backend"


def parsed(answer: expect.Answer) -> dict[str, str]:
    """The backend of each device type that the answered string covers, as torch reads it; a violation where it cannot.

    A plain name that torch does not know covers nothing: torch would take it for a backend of cpu, cuda and xpu.
    """
    from torch.distributed.distributed_c10d import Backend, BackendConfig

    text = answer.value
    if isinstance(text, str) and ":" not in text and text.lower() not in Backend.backend_list:
        return {}
    call = f"torch reads the backend {text!r}"
    config = expect.attempt(call, lambda: BackendConfig(Backend(text)), where=answer.where).value
    return {str(device): str(backend) for device, backend in config.get_device_backend_map().items()}


def available(name: str) -> bool:
    """Whether this torch has a backend of that name."""
    import torch.distributed as dist

    if name.lower() not in dist.Backend.backend_list:
        return False
    ask = getattr(dist, f"is_{name.lower()}_available", None)
    return bool(ask()) if callable(ask) else True


def chosen(device: str) -> expect.Answer:
    """The backend that SGLang takes for a device type or name."""
    from sglang.srt.distributed import parallel_state

    call = f"{_LOOKUP.rpartition('.')[2]}({device!r})"
    # By attribute, so that what a hook put in its place is called.
    return expect.attempt(call, lambda: parallel_state.get_default_distributed_backend(device))


def member(platform: Any, device: Any, folder: str, *, rank: int, size: int, deadline: float) -> list[list[float]]:
    """Be one rank of a group that meets in ``folder``: what its all-reduce and its broadcast from the last rank gave.

    Rank r gives r + 1 and 100 (r + 1) to each, so that sums and sources can be told. Its peers have
    ``deadline`` seconds.
    """
    import torch.distributed as dist

    worker.make_current(platform, device)
    answer = expect.ask(platform, "get_torch_distributed_backend_str")
    call = f"init_process_group({answer.value!r}, rank={rank}, world_size={size})"

    def join() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dist.init_process_group(
                answer.value,
                init_method=f"file://{folder}/meeting",
                rank=rank,
                world_size=size,
                timeout=timedelta(seconds=deadline),
            )

    expect.attempt(call, join, where=answer.where)
    try:
        reduced, sent = _own(rank, device), _own(rank, device)
        expect.attempt(f"{call}; all_reduce on {device}", lambda: dist.all_reduce(reduced), where=answer.where)
        expect.attempt(f"{call}; broadcast on {device}", lambda: dist.broadcast(sent, size - 1), where=answer.where)
        return [worker.values(reduced), worker.values(sent)]
    finally:
        dist.destroy_process_group()


def _own(rank: int, device: Any) -> Any:
    import torch

    return torch.tensor([rank + 1.0, 100.0 * (rank + 1)], device=device)
