"""``sglang.srt.distributed.bootstrap``: how a worker's process comes to its groups, and measures its memory.

Facts: SGLang 0.5.16 (``init_torch_distributed``), 0.5.21 and 0.5.23 (the rest), srt/distributed/bootstrap.py.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from .._arguments.published import gpu_id
from .._released import Lifetime, withdraw
from ..model_executor import _joining, _layout
from . import parallel_state

__all__ = ["init_parallel_runtime", "measure_pre_model_load_memory", "reset_parallel_initialised"]

logger = logging.getLogger("sglang.srt.distributed.bootstrap")

_initialised = False


def init_parallel_runtime(*, server_args: Any, device: str, dist_port: int) -> None:
    """Make the device current and the groups, once a process, after its arguments were published."""
    global _initialised
    if _initialised:
        raise RuntimeError("init_parallel_runtime() ran twice in this process: groups are made once")
    _initialised = True
    began = time.perf_counter()
    logger.info("Init parallel begin.")
    layout, index = _layout.of_context(), gpu_id()
    # Asked for before the device is made current: a platform may make its device known to torch then.
    backend = parallel_state.get_default_distributed_backend(device)
    _joining.make_current(device, index, layout)
    _joining.join(server_args, device, index, dist_port, layout, backend)
    logger.info("Init parallel ends. elapsed=%.2f s", time.perf_counter() - began)


def measure_pre_model_load_memory(*, device: str, is_draft_worker: bool) -> float:
    """The least free memory of all ranks before a model is loaded, in GiB. RuntimeError where they differ too much."""
    return _joining.measure(device, gpu_id(), _layout.of_context(), is_draft_worker=is_draft_worker)


def reset_parallel_initialised() -> None:
    """Let the groups be made again, once they are destroyed."""
    global _initialised
    _initialised = False


_ABSENT = withdraw(
    globals(),
    dict.fromkeys(
        ("init_parallel_runtime", "measure_pre_model_load_memory", "reset_parallel_initialised"), Lifetime("0.5.21")
    ),
)
