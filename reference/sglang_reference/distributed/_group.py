"""What a group is: its ranks, its two process groups, its device and its engines, from making to destroying."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch.distributed import ProcessGroup

from sglang_reference._errors import not_covered

from .._contract import since
from .._released import Lifetime, Parameters, Renamed, released
from . import _registry
from . import parallel_state as state
from ._devices import _group_coordinator_device

logger = logging.getLogger("sglang.srt.distributed.parallel_state")

CONSTRUCTOR = Parameters(
    lifetimes={
        "use_npu_communicator": Lifetime(gone="0.5.23"),
        "rank_offset": Lifetime("0.5.16"),
        "max_world_size": Lifetime("0.5.16"),
    },
    renamed={"use_mscclpp": Renamed("use_pymscclpp", until="0.5.21")},
)
"""How the parameters of GroupCoordinator differ between releases."""


@dataclass
class GraphCaptureContext:
    """What a graph is captured on."""

    stream: Any


class Group:
    """The part of a GroupCoordinator that every collective stands on.

    ``ranks`` are global, ``rank_in_group`` is this process's place among them, ``local_rank`` its place on its machine.
    ``device_group`` has the given backend, ``cpu_group`` is gloo. ``pynccl_comm`` is there where it is wished for, and
    may be unavailable; so is ``ca_comm``, where a class serves the device, and may be disabled. The other engines are
    None here, since each needs a library of its device; a plugin may put one of its own in their place.
    """

    ranks: list[int]
    world_size: int
    rank_in_group: int
    cpu_group: ProcessGroup | None
    device_group: ProcessGroup | None
    active_ranks: torch.Tensor
    active_ranks_cpu: torch.Tensor
    pynccl_comm: Any
    ca_comm: Any
    _captures: int = 0

    @released(CONSTRUCTOR)
    def __init__(
        self,
        group_ranks: list[list[int]],
        local_rank: int,
        torch_distributed_backend: str,
        use_pynccl: bool,
        use_mscclpp: bool,
        use_custom_allreduce: bool,
        use_torch_symm_mem_all_reduce: bool,
        use_hpu_communicator: bool,
        use_xpu_communicator: bool,
        use_npu_communicator: bool,
        use_message_queue_broadcaster: bool = False,
        group_name: str | None = None,
        gloo_timeout: timedelta = timedelta(seconds=120 * 60),
        recovered_rank: bool = False,
        rank_offset: int = 0,
        max_world_size: int | None = None,
    ) -> None:
        """Make all groups of one kind, on every rank and in the same order, and keep the one that this rank is in.

        Raises AssertionError where it is in none. ``use_…`` are wishes: an engine that is not there is not used.
        """
        if "mooncake" in torch_distributed_backend:
            raise not_covered("the backend mooncake")
        name = group_name or "anonymous"
        self.unique_name = state._get_unique_name(name)
        state._register_group(self)  # type: ignore[arg-type]
        self.rank = torch.distributed.get_rank()
        self.local_rank = local_rank
        self.local_size = _number("LOCAL_SIZE")
        self.device_group = self.cpu_group = None
        # SGLang's own function from 0.5.23 on, which a plugin may have hooked.
        self.device = vars(state).get("_group_coordinator_device", _group_coordinator_device)(local_rank)
        self.device_module = torch.get_device_module(self.device)
        members = [[rank + rank_offset for rank in ranks] for ranks in group_ranks]
        self._make_groups(
            members, torch_distributed_backend, name, gloo_timeout, rank_offset > 0 and not recovered_rank
        )
        assert self.cpu_group is not None, f"rank {self.rank} is in none of the groups {members}"
        wishes = {
            "use_pynccl": use_pynccl,
            "use_mscclpp": use_mscclpp,
            "use_custom_allreduce": use_custom_allreduce,
            "use_torch_symm_mem_all_reduce": use_torch_symm_mem_all_reduce,
            "use_hpu_communicator": use_hpu_communicator,
            "use_xpu_communicator": use_xpu_communicator,
            "use_npu_communicator": use_npu_communicator,
            "use_message_queue_broadcaster": use_message_queue_broadcaster,
        }
        vars(self).update(CONSTRUCTOR.named(wishes))
        self._have_no_engines()
        if use_pynccl and self.world_size > 1:
            from .device_communicators import pynccl  # at this moment: a hook may replace the class

            self.pynccl_comm = pynccl.PyNcclCommunicator(group=self.cpu_group, device=self.device)
        if use_custom_allreduce and self.world_size > 1:
            self.ca_comm = self._custom_all_reduce()
        self.mq_broadcaster: Any = None
        if use_message_queue_broadcaster and self.world_size > 1 and not recovered_rank:
            self.mq_broadcaster = FirstRankBroadcaster(self.cpu_group, self.ranks[0])

    def _make_groups(
        self, members: list[list[int]], backend: str, name: str, gloo_timeout: timedelta, local: bool
    ) -> None:
        for ranks in members:
            active = torch.ones(len(ranks), dtype=torch.int32, device=self.device)
            device_group = torch.distributed.new_group(
                ranks,
                backend=backend,
                pg_options=state.get_torch_distributed_pg_options(name),
                timeout=state._MODEL_PARALLEL_GROUP_TIMEOUT,
                group_desc=f"{name}:device",
                use_local_synchronization=local,
            )
            cpu_group = torch.distributed.new_group(
                ranks,
                backend="gloo",
                timeout=gloo_timeout,
                group_desc=f"{name}:cpu",
                use_local_synchronization=local,
            )
            if self.rank in ranks:
                self.ranks = ranks
                self.world_size = len(ranks)
                self.rank_in_group = ranks.index(self.rank)
                self.device_group, self.cpu_group = device_group, cpu_group
                self.active_ranks = active
                self.active_ranks_cpu = torch.ones(len(ranks), dtype=torch.int32)

    def _custom_all_reduce(self) -> Any:
        """What reduces small tensors faster, of the class chosen now; None where there is none, as is logged."""
        from .device_communicators import custom_all_reduce  # at this moment: a hook may replace the function

        given = {"group": self.cpu_group, "device": self.device}
        try:
            chosen = custom_all_reduce.dispatch_custom_allreduce(**(given if since("0.5.13") else {}))
            return chosen(**given)
        except Exception as error:
            logger.warning("rank %d goes without custom all-reduce, since making it failed: %s", self.rank, error)
            return None

    def _have_no_engines(self) -> None:
        self.pynccl_comm = None
        self.pymscclpp_comm: Any = None
        self.ca_comm = None
        self.qr_comm: Any = None
        self.pcie_ipc_comm: Any = None
        self.torch_symm_mem_comm: Any = None
        self.hpu_communicator: Any = None
        self.xpu_communicator: Any = None
        self.npu_communicator: Any = None

    def __repr__(self) -> str:
        return (
            f"ranks={self.ranks} rank={self.rank} local_rank={self.local_rank} use_pynccl={vars(self)['use_pynccl']} "
            f"device_group={self.device_group} cpu_group={self.cpu_group} unique_name={self.unique_name} "
            f"world_size={self.world_size} rank_in_group={self.rank_in_group}"
        )

    @property
    def available_pynccl(self) -> Any:
        """The PyNCCL communicator, where it can be used; None where the group has none, or none that is available.

        Of the reference alone: SGLang enables one that is not available too, and fails in its next operation.
        """
        engine = self.pynccl_comm
        return engine if engine is not None and getattr(engine, "available", True) else None

    @property
    def enabled_pynccl(self) -> Any:
        """The PyNCCL communicator while it is enabled; else None. Of the reference alone."""
        engine = self.pynccl_comm
        return engine if engine is not None and not engine.disabled else None

    @property
    def first_rank(self) -> int:
        """The global rank of the group's first process."""
        return self.ranks[0]

    @property
    def last_rank(self) -> int:
        """The global rank of the group's last process."""
        return self.ranks[-1]

    @property
    def is_first_rank(self) -> bool:
        """Whether this process is the group's first."""
        return self.rank == self.first_rank

    @property
    def is_last_rank(self) -> bool:
        """Whether this process is the group's last."""
        return self.rank == self.last_rank

    @property
    def next_rank(self) -> int:
        """The global rank of the process after this one; after the last comes the first."""
        return self.ranks[self._after(1)]

    @property
    def prev_rank(self) -> int:
        """The global rank of the process before this one; before the first comes the last."""
        return self.ranks[self._after(-1)]

    def _after(self, steps: int) -> int:
        """The place in the group so many steps on."""
        return (self.rank_in_group + steps) % self.world_size

    # SGLang keeps these four functions on each group; symmetric memory needs a library of the device.

    @staticmethod
    def is_symmetric_memory_enabled() -> bool:
        """Whether tensors come from symmetric memory: no."""
        return False

    @staticmethod
    def use_symmetric_memory(group_coordinator: Group, disabled: bool = False) -> contextlib.nullcontext[None]:
        """A scope in which tensors come from symmetric memory; an empty one."""
        return contextlib.nullcontext()

    @staticmethod
    def is_allocation_symmetric() -> bool:
        """Whether all ranks make room in the same way: they do, without attention's data parallelism."""
        return True

    @staticmethod
    def debug_check_symmetric_mempool(group_coordinator: Group, tensors: dict[str, torch.Tensor], op_name: str) -> None:
        """Check that tensors come from symmetric memory; nothing to check."""

    def barrier(self) -> None:
        """Wait until every process of the group is here, by way of the host."""
        torch.distributed.barrier(group=self.cpu_group)

    @contextlib.contextmanager
    def graph_capture(
        self, graph_capture_context: GraphCaptureContext | None = None, stream: Any = None
    ) -> Iterator[GraphCaptureContext]:
        """While a graph is captured: on a stream of its own, which waits for the present one, with engines made ready.

        ``stream`` is used where it is given, unless ``graph_capture_context`` brings one.
        """
        if graph_capture_context is None:
            graph_capture_context = GraphCaptureContext(self.device_module.Stream() if stream is None else stream)
        stream = graph_capture_context.stream
        current = self.device_module.current_stream()
        if current != stream:
            stream.wait_stream(current)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.device_module.stream(stream))
            if self.ca_comm is not None:
                stack.enter_context(self.ca_comm.capture())
            for engine in (self.available_pynccl, self.pymscclpp_comm):
                if engine is not None:
                    stack.enter_context(engine.change_state(enable=True))
            stack.callback(setattr, self, "_captures", self._captures)
            self._captures += 1
            yield graph_capture_context

    def destroy(self) -> None:
        """Give back both process groups and all engines; the group's name stands for nothing any more."""
        if self.pcie_ipc_comm is not None:
            self.pcie_ipc_comm.destroy()
        for group in (self.device_group, self.cpu_group):
            if group is not None:
                torch.distributed.destroy_process_group(group)
        self.device_group = self.cpu_group = None
        for engine in (self.pynccl_comm, self.pymscclpp_comm):
            if hasattr(engine, "destroy"):
                engine.destroy()
        self._have_no_engines()
        self.mq_broadcaster = None
        _registry.forget(self.unique_name)


class FirstRankBroadcaster:
    """Sends objects from the group's first rank to all others, where SGLang has a queue in shared memory."""

    def __init__(self, group: ProcessGroup, first: int) -> None:
        self._group = group
        self._first = first

    def broadcast_object(self, obj: Any = None) -> Any:
        """The first rank's object, on every rank."""
        parcel = [obj]
        torch.distributed.broadcast_object_list(parcel, src=self._first, group=self._group)
        return parcel[0]


def _number(variable: str) -> int:
    """An environment variable as a number; 0 where it is none."""
    try:
        return int(os.environ.get(variable, ""))
    except ValueError:
        return 0


def place(dim: int, shape: Sequence[int]) -> int:
    """A dimension counted from the first one; raises AssertionError where the shape has none of that number."""
    assert -len(shape) <= dim < len(shape), f"Invalid dim ({dim}) for input tensor with shape {tuple(shape)}"
    return dim % len(shape)
