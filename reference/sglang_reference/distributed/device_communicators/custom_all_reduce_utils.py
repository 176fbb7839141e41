"""SGLang's questions about the devices of a group: what joins them, and who reaches whose memory.

The answers are those of :mod:`sglang_reference._custom_all_reduce`, under the names at which a hook meets them in
SGLang; each function looks the others up here at the moment. Facts: SGLang 0.5.11 to 0.5.23,
srt/distributed/device_communicators/custom_all_reduce_utils.py.

Where SGLang lets a rank decide alone (its own access to the others), all ranks are asked here, and one whose question
fails or hangs is told from; devices may be told by their UUIDs, which it cannot read; and what it keeps of peer access
is trusted only where it is whole.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from sglang_reference._custom_all_reduce import nvml, peer_access
from sglang_reference._custom_all_reduce.in_time import in_time
from sglang_reference._custom_all_reduce.peer_access import Machine
from sglang_reference._custom_all_reduce.tensors import layout_of, weakly_contiguous

from ..._released import Lifetime, withdraw
from .._devices import kind_of_device
from ..parallel_state import in_the_same_node_as

logger = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])

pynvml: Any = None
"""The management library; where it is None, pynvml is imported when it is needed."""

_gpu_p2p_access_cache: dict[str, bool] | None = None
"""What was tested in this process, as ``{"0->1": True}``."""

_PROBE_SECONDS = 45.0
"""Seconds that a question about the devices may take on one rank; the others wait longer for its answer."""


def is_weak_contiguous(inp: torch.Tensor) -> bool:
    """Whether the engines may read a tensor as one stretch of memory, which ends where its storage does."""
    return weakly_contiguous(layout_of(inp))


def with_nvml_context(fn: F) -> F:
    """Have the management library open while the function runs. Raises Unavailable where there is none."""

    @functools.wraps(fn)
    def opened(*args: Any, **kwargs: Any) -> Any:
        library = _library()
        library.nvmlInit()
        try:
            return fn(*args, **kwargs)
        finally:
            library.nvmlShutdown()

    return opened  # type: ignore[return-value]


@with_nvml_context
def is_full_nvlink(physical_device_ids: list[int], world_size: int) -> bool:
    """Whether NVLink joins every pair of these devices, which are the machine's by number; False where none can say."""
    library = _library()
    try:
        handles = [library.nvmlDeviceGetHandleByIndex(number) for number in physical_device_ids]
        return all(
            library.nvmlDeviceGetP2PStatus(one, other, library.NVML_P2P_CAPS_INDEX_NVLINK) == library.NVML_P2P_STATUS_OK
            for place, one in enumerate(handles)
            for other in handles[place + 1 :]
        )
    except library.NVMLError as error:
        logger.warning("what joins the devices %s cannot be told: %s", physical_device_ids, error)
        return False


@with_nvml_context
def is_one_nvlink_clique(group: dist.ProcessGroup, device: torch.device) -> bool:
    """Whether the devices of all ranks have joined the same fabric; a rank that cannot tell has joined none."""
    clique = _within(lambda: _gpu_fabric_clique(device))
    cliques = _told_by_all(group, None if clique is None else [clique[0].hex(), clique[1]])
    return None not in cliques and all(each == cliques[0] for each in cliques)


def _gpu_fabric_clique(device: torch.device) -> tuple[bytes, int] | None:
    """The fabric that a device has joined: its cluster, and the clique in it; None where it has joined none."""
    library = _library()
    return nvml.clique_of(library, library.nvmlDeviceGetHandleByIndex(_physical(device)))


def can_p2p(rank: int, world_size: int) -> bool:
    """Whether the device numbered ``rank`` reaches the memory of all others below ``world_size``."""
    others = (other for other in range(world_size) if other != rank)
    if os.environ.get("SGLANG_SKIP_P2P_CHECK") == "1":
        return all(torch.cuda.can_device_access_peer(rank, other) for other in others)
    return all(gpu_p2p_access_check(rank, other) for other in others)


def gpu_p2p_access_check(src: int, tgt: int) -> bool:
    """Whether one visible device reaches the memory of another, by a test that is kept for the machine.

    A device that is not visible here is reached by none.
    """
    global _gpu_p2p_access_cache
    if _gpu_p2p_access_cache is None:
        count = torch.cuda.device_count()
        names = tuple(str(torch.cuda.get_device_properties(number).uuid) for number in range(count))
        folder = Path(os.environ.get("SGLANG_CACHE_DIR") or "~/.cache/sglang").expanduser()
        found = peer_access.access(folder, Machine(names, str(torch.version.cuda)), _tested, _PROBE_SECONDS)
        _gpu_p2p_access_cache = {
            f"{one}->{other}": (names[one], names[other]) in found.pairs
            for one in range(count)
            for other in range(count)
        }
    return _gpu_p2p_access_cache.get(f"{src}->{tgt}", False)


def can_actually_p2p(batch_src: Sequence[int], batch_tgt: Sequence[int]) -> Sequence[bool]:
    """For each pair of visible devices whether one really has what the other's memory holds, tried in a process apart.

    SGLang opens the memory in another process besides. A test that fails or hangs has found no access.
    """
    question = json.dumps([list(batch_src), list(batch_tgt)])
    program = [sys.executable, "-c", _PROGRAM]
    try:
        done = subprocess.run(program, input=question.encode(), capture_output=True, timeout=_PROBE_SECONDS, check=True)
        answer = [bool(each) for each in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        logger.warning("peer access cannot be tested, and is taken for none: %s", error)
        return [False] * len(batch_src)
    return answer


def can_use_custom_all_reduce_with_nvlink(
    group: dist.ProcessGroup, device: torch.device, supported_world_size: list[int], cls_name: str
) -> bool | None:
    """Whether NVLink joins all ranks of the group; None where a class for these sizes cannot be used. A collective.

    Raises AssertionError for a group of NCCL.
    """
    assert dist.get_backend(group) != "nccl", f"{cls_name} meets over host tensors, which NCCL does not take"
    if dist.get_world_size(group) == 1:
        return None
    linked, against = _judged(group, device, supported_world_size)
    if against:
        logger.warning("%s is not used: %s. --disable-custom-all-reduce switches it off in silence", cls_name, against)
        return None
    return linked


def _judged(group: dist.ProcessGroup, device: torch.device, sizes: list[int]) -> tuple[bool, str]:
    """Whether lanes join all ranks, and what speaks against a class for these sizes. All ranks say the same."""
    size = dist.get_world_size(group)
    if not all(in_the_same_node_as(group, source_rank=0)):
        return False, "the ranks are on several machines"
    if size not in sizes:
        return False, f"{size} ranks are none of {', '.join(map(str, sizes))}"
    numbers = _told_by_all(group, _attempt(lambda: _physical(device)))
    if None in numbers:
        return False, f"rank {numbers.index(None)} cannot tell its device"
    # A rank may see what another does not, and each must do the same.
    seen = _told_by_all(group, _within(lambda: _seen(group, device, numbers)) or [False, False])
    linked = all(links for links, _ in seen)
    apart = [rank for rank, (_, reaches) in enumerate(seen) if not reaches]
    if size > 2 and not linked:
        return False, "more than two ranks need NVLink between every pair"
    return linked, f"rank {apart[0]} does not reach the memory of all others" if apart else ""


def _seen(group: dist.ProcessGroup, device: torch.device, numbers: list[int]) -> list[bool]:
    """Whether this rank sees links between all of these devices, and whether it reaches the memory of the others."""
    links = _attempt(lambda: is_full_nvlink(numbers, len(numbers)))
    reaches = kind_of_device() == "rocm" or _attempt(lambda: _reaches(group, device, numbers))
    return [bool(links), bool(reaches)]


def _reaches(group: dist.ProcessGroup, device: torch.device, numbers: list[int]) -> bool:
    """Whether this rank reaches the memory of the others: by test where it sees their devices, else by the driver."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    if (device.index or 0) == rank and torch.cuda.device_count() >= size:
        return can_p2p(rank, size)
    return _driver_says(numbers[rank], [number for number in numbers if number != numbers[rank]])


@with_nvml_context
def _driver_says(own: int, others: list[int]) -> bool:
    library = _library()
    handle = library.nvmlDeviceGetHandleByIndex(own)
    ways = (library.NVML_P2P_CAPS_INDEX_READ, library.NVML_P2P_CAPS_INDEX_WRITE)
    return all(
        library.nvmlDeviceGetP2PStatus(handle, library.nvmlDeviceGetHandleByIndex(other), way)
        == library.NVML_P2P_STATUS_OK
        for other in others
        for way in ways
    )


def _told_by_all(group: dist.ProcessGroup, answer: Any) -> list[Any]:
    answers: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(answers, answer, group=group)
    return answers


def _attempt(question: Callable[[], Any]) -> Any:
    """The answer, or None: a rank that raised would leave the others waiting for its part."""
    try:
        return question()
    except Exception as error:
        logger.warning("a question about the devices has failed: %s: %s", type(error).__name__, error)
        return None


def _within(question: Callable[[], Any]) -> Any:
    """The answer, or None also where it hangs."""
    done = in_time(lambda: _attempt(question), _PROBE_SECONDS)
    if done.trouble:
        logger.warning("a question about the devices has failed: %s", done.trouble)
    return done.value


def _physical(device: torch.device) -> int:
    """The machine's number of a device of this process. Raises ValueError where the process does not see it."""
    index = 0 if device.index is None else device.index
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    entries = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    if index >= len(entries):
        raise ValueError(f"{device} is none of the {len(entries)} devices that this process sees")
    entry = entries[index].strip()
    if entry.isdigit():
        return int(entry)
    library = _library()
    library.nvmlInit()
    try:
        return int(library.nvmlDeviceGetIndex(library.nvmlDeviceGetHandleByUUID(entry)))
    finally:
        library.nvmlShutdown()


def _library() -> Any:
    return pynvml if pynvml is not None else nvml.library()


def _tested(devices: Sequence[str]) -> frozenset[tuple[str, str]]:
    """The pairs of visible devices that have access, by their names."""
    places = [(one, other) for one in range(len(devices)) for other in range(len(devices))]
    found = can_actually_p2p([one for one, _ in places], [other for _, other in places])
    return frozenset((devices[one], devices[other]) for (one, other), has in zip(places, found, strict=True) if has)


_PROGRAM = """
import json, sys, torch
answers = []
for one, other in zip(*json.load(sys.stdin)):
    held = torch.arange(256, device=f"cuda:{other}")
    told = one == other or torch.cuda.can_device_access_peer(one, other)
    answers.append(told and bool((held.to(f"cuda:{one}").cpu() == torch.arange(256)).all()))
json.dump(answers, sys.stdout)
"""

_ABSENT = withdraw(globals(), {"is_one_nvlink_clique": Lifetime("0.5.17"), "_gpu_fabric_clique": Lifetime("0.5.17")})
