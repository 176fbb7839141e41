"""``simccl``, the simulated accelerator's torch.distributed backend.

SGLang opens its groups with the string of ``get_torch_distributed_backend_str()``, here ``cpu:gloo,sim:simccl``:
gloo for host tensors, simccl for the device's. A real vendor's backend registers a C++ ``c10d::Backend``; this one
is a Python ``ProcessGroup``, which torch then uses for the whole group. So it is given host tensors as well, and
carries both over gloo, the simulated ones by the host memory behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from sglang_simulated.arguments import changed, changed_by_name, leaves
from sglang_simulated.streams import current_stream
from sglang_simulated.tensor import SimTensor

BACKEND = "simccl"
BACKEND_STRING = f"cpu:gloo,sim:{BACKEND}"


def register() -> None:
    """Make torch.distributed know the backend ``simccl``. Idempotent; no group is opened."""
    if not hasattr(dist.Backend, BACKEND.upper()):
        dist.Backend.register_backend(BACKEND, _create, devices=["sim"])


def _create(store: Any, rank: int, size: int, timeout: timedelta) -> SimProcessGroup:
    return SimProcessGroup(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)


class SimProcessGroup(dist.ProcessGroup):
    """A group whose collectives take simulated and host tensors alike, each over gloo.

    The collectives are those of ``ProcessGroup``, with its arguments; each writes where it is told to and returns
    torch's ``Work``. Raises RuntimeError inside a graph capture, as gloo's work cannot be replayed.
    """

    def __init__(self, gloo: Any, rank: int, size: int) -> None:
        super().__init__(rank, size)  # type: ignore[call-arg]
        self._gloo = gloo
        # What torch asks of the group by device, and the group's name, go to the backend registered here.
        self._register_backend(torch.device("cpu"), dist.ProcessGroup.BackendType.GLOO, gloo)
        self._register_backend(torch.device("sim"), dist.ProcessGroup.BackendType.CUSTOM, gloo)

    def getBackendName(self) -> str:  # noqa: N802 - torch's name
        """The name under which the backend is registered."""
        return BACKEND

    def allreduce(self, *args: Any, **kwargs: Any) -> Any:
        """Reduce a tensor of every rank into every rank's."""
        return _on_host(self._gloo.allreduce, args, kwargs)

    def allreduce_coalesced(self, *args: Any, **kwargs: Any) -> Any:
        """Reduce several tensors at once."""
        return _on_host(self._gloo.allreduce_coalesced, args, kwargs)

    def reduce(self, *args: Any, **kwargs: Any) -> Any:
        """Reduce a tensor of every rank into the root's."""
        return _on_host(self._gloo.reduce, args, kwargs)

    def broadcast(self, *args: Any, **kwargs: Any) -> Any:
        """Copy the root's tensor into every rank's."""
        return _on_host(self._gloo.broadcast, args, kwargs)

    def allgather(self, *args: Any, **kwargs: Any) -> Any:
        """Gather every rank's tensor into a list on every rank."""
        return _on_host(self._gloo.allgather, args, kwargs)

    def allgather_coalesced(self, *args: Any, **kwargs: Any) -> Any:
        """Gather several tensors of every rank into lists."""
        return _on_host(self._gloo.allgather_coalesced, args, kwargs)

    def _allgather_base(self, *args: Any, **kwargs: Any) -> Any:
        return _on_host(self._gloo._allgather_base, args, kwargs)

    def allgather_into_tensor_coalesced(self, outputs: Any, inputs: Any, *opts: Any) -> Any:
        """Gather several tensors of every rank into one tensor each."""
        pairs = zip(outputs, inputs, strict=True)
        return _last([self._allgather_base(out, each, *opts) for out, each in pairs])

    def gather(self, *args: Any, **kwargs: Any) -> Any:
        """Gather every rank's tensor into a list on the root."""
        return _on_host(self._gloo.gather, args, kwargs)

    def scatter(self, *args: Any, **kwargs: Any) -> Any:
        """Give each rank its tensor of the root's list."""
        return _on_host(self._gloo.scatter, args, kwargs)

    def reduce_scatter(self, *args: Any, **kwargs: Any) -> Any:
        """Reduce every rank's list, each rank keeping its own element."""
        return _on_host(self._gloo.reduce_scatter, args, kwargs)

    def _reduce_scatter_base(self, *args: Any, **kwargs: Any) -> Any:
        return _on_host(self._gloo._reduce_scatter_base, args, kwargs)

    def reduce_scatter_tensor_coalesced(self, outputs: Any, inputs: Any, *opts: Any) -> Any:
        """Reduce several tensors, each rank keeping its own part."""
        pairs = zip(outputs, inputs, strict=True)
        return _last([self._reduce_scatter_base(out, each, *opts) for out, each in pairs])

    def alltoall_base(self, *args: Any, **kwargs: Any) -> Any:
        """Exchange the parts of one tensor with every rank."""
        return _on_host(self._gloo.alltoall_base, args, kwargs)

    def alltoall(self, *args: Any, **kwargs: Any) -> Any:
        """Exchange a list of tensors with every rank."""
        return _on_host(self._gloo.alltoall, args, kwargs)

    def send(self, *args: Any, **kwargs: Any) -> Any:
        """Send a tensor to one rank."""
        return _on_host(self._gloo.send, args, kwargs)

    def recv(self, *args: Any, **kwargs: Any) -> Any:
        """Receive a tensor from one rank."""
        return _on_host(self._gloo.recv, args, kwargs)

    def recv_anysource(self, *args: Any, **kwargs: Any) -> Any:
        """Receive a tensor from whichever rank sends first."""
        return _on_host(self._gloo.recv_anysource, args, kwargs)

    def barrier(self, *args: Any, **kwargs: Any) -> Any:
        """Wait until every rank is here."""
        return _on_host(self._gloo.barrier, args, kwargs)

    # The names that torch 2.13 gives the same collectives.
    all_gather_single = _allgather_base
    all_gather_single_coalesced = allgather_into_tensor_coalesced  # type: ignore[assignment]
    reduce_scatter_single = _reduce_scatter_base
    reduce_scatter_single_coalesced = reduce_scatter_tensor_coalesced  # type: ignore[assignment]
    all_to_all_single = alltoall_base


def _on_host(collective: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    sims = [leaf for leaf in leaves((*args, *kwargs.values())) if isinstance(leaf, SimTensor)]
    if any(current_stream(sim.device).graph is not None for sim in sims):
        raise RuntimeError(f"{BACKEND} cannot be captured in a graph: keep collectives out of the capture")
    return collective(*changed(_host_of, args), **changed_by_name(_host_of, kwargs))


def _host_of(leaf: Any) -> Any:
    return leaf._host if isinstance(leaf, SimTensor) else leaf


def _last(works: list[Any]) -> Any:
    """The last of several works, once the others are complete: gloo has no one work for many tensors here."""
    for work in works[:-1]:
        work.wait()
    return works[-1]
