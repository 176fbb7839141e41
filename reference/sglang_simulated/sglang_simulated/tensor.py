"""Tensors of the simulated device: a wrapper that says ``sim:N``, over a host tensor that holds the bytes.

Every operation on such a tensor arrives at :func:`run_on_device`, by one of two roads: torch's dispatcher hands it
to ``SimTensor.__torch_dispatch__`` when an argument is simulated, and to the kernels of
:mod:`sglang_simulated.device` when only the requested device is. There the operation is checked as a device would
check it, run on the host tensors, charged to the device's memory, and wrapped again.
"""

from __future__ import annotations

import functools
import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from sglang_simulated.arguments import changed, changed_by_name, leaves
from sglang_simulated.graphs import as_now
from sglang_simulated.runtime import runtime
from sglang_simulated.streams import Stream, current_stream

_aten = torch.ops.aten
_DEVICE_KEY = torch._C.DispatchKeySet(torch._C.DispatchKey.PrivateUse1)
_COPIES = frozenset({_aten.copy_.default, _aten._to_copy.default})
_ALLOCATIONS = frozenset({_aten.empty.memory_format, _aten.empty_strided.default})
# Index tensors may stay on the host, as on other devices.
_TAKE_HOST_INDICES = frozenset(
    {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
)


class SimTensor(torch.Tensor):
    """A tensor on a simulated device. Made by torch's own factories with ``device="sim:N"``, not by hand."""

    _host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor, index: int) -> SimTensor:
        """Present ``host``'s bytes as a tensor on device ``index``, of the same shape, strides and type."""
        made: SimTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            layout=host.layout,
            device=torch.device("sim", index),
        )
        made._host = host
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation of torch that has a simulated tensor among its arguments.

        An operator with a kernel of its own for this device gets it: SGLang registers its collectives so, for the
        dispatch key that all out-of-tree devices share (0.5.23, srt/utils/common.py).
        """
        own = _facts(func).own
        if _has_kernel(func) if own is None else own:
            return func.redispatch(_DEVICE_KEY, *args, **(kwargs or {}))
        return run_on_device(func, args, kwargs or {})

    def data_ptr(self) -> int:
        """The address of the first element: unique to the bytes, and meaningless to any kernel but ours."""
        return self._host.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """The storage of the bytes. Views of one tensor give the same; its own ``device`` reads cpu."""
        return self._host.untyped_storage()

    def tolist(self) -> Any:
        """The values as Python numbers, copied to the host first."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """The values as an array with ``force``; TypeError without, as for every tensor that is not on the host."""
        if not force:
            raise TypeError(f"a tensor on {self.device} has no numpy array: copy it to the host with .cpu() first")
        return self.detach().cpu().numpy()

    def record_stream(self, stream: Stream) -> None:  # type: ignore[override]
        """Keep the memory until ``stream`` is done with it: nothing to do, as operations complete at once."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as the values and the device's index: the process that reads it needs that device too."""
        return _rebuild, (self.detach().cpu(), self.device.index)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"{repr(self._host)[:-1]}, device='{self.device}')"


def _rebuild(host: torch.Tensor, index: int) -> torch.Tensor:
    from sglang_simulated.device import register

    register()
    return host.to(torch.device("sim", index))


class _Facts(NamedTuple):
    """What does not change of an operator of torch.

    ``draws``: random numbers; ``writes``: to an argument; ``copies``: between devices; ``allocates``, and does nothing
    else; ``takes_host``: tensors beside those of a device. ``own``: whether torch's own operator has a kernel for this
    device, None of another's, which may be given one at any time.
    """

    draws: bool
    writes: bool
    copies: bool
    allocates: bool
    takes_host: bool
    own: bool | None


@functools.cache
def _facts(func: Any) -> _Facts:
    return _Facts(
        draws=torch.Tag.nondeterministic_seeded in func.tags,
        writes=func._schema.is_mutable,
        copies=func in _COPIES,
        allocates=func in _ALLOCATIONS,
        takes_host=func in _TAKE_HOST_INDICES,
        own=_has_kernel(func) if func.namespace in ("aten", "prim") else None,
    )


def _has_kernel(func: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "PrivateUse1"))


def run_on_device(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run ``func``, a torch operator, where its arguments or its ``device`` argument say.

    Raises RuntimeError where the arguments lie on different devices, or where a graph capture forbids the
    operation, and torch.OutOfMemoryError where the result does not fit.
    """
    facts = _facts(func)
    given = leaves((*args, *kwargs.values()))
    sims = [leaf for leaf in given if isinstance(leaf, SimTensor)]
    index = _device_of(func, args, kwargs, sims)
    runs_on = _index_of(sims[0]) if index is None else index
    if index is not None:
        if not facts.copies and len(given) > 1:
            _require_one_device(func, sims, [] if facts.takes_host else [leaf for leaf in given if _is_host(leaf)])
        if facts.allocates:
            _require_memory(args, kwargs, index)

    graph = current_stream(runs_on).graph
    if graph is not None:
        graph.refuse_host_data(func, given, to_host=index is None)
    on_host = _on_host if graph is None else _kept_on_host
    host_args, host_kwargs = changed(on_host, args), changed_by_name(on_host, kwargs)
    step = None if graph is None else as_now(host_args, host_kwargs)
    with runtime().random_numbers_of(runs_on) if facts.draws else nullcontext():
        result = func(*host_args, **host_kwargs)
    if graph is not None and step is not None:
        graph.record(func, *step, result, runs_on)
    if facts.writes:
        for sim in sims:
            _follow_host(sim)
    if index is None:
        return result
    same = {id(sim._host): sim for sim in sims}
    if isinstance(result, (list, tuple)):
        return changed(lambda leaf: _on_device(leaf, index, same), result)
    return _on_device(result, index, same)


# torch.compile runs this as it is, instead of tracing into the simulation.
run_on_device._torchdynamo_disable = True  # type: ignore[attr-defined]


def copy_between(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """The kernel of ``aten::_copy_from``, through which torch's own code copies to and from a device."""
    run_on_device(_aten.copy_.default, (target, source), {"non_blocking": non_blocking})
    return target


def _device_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], sims: list[SimTensor]) -> int | None:
    """The index of the device that the result belongs to; None where it belongs to the host.

    Without a simulated tensor, an operation is here because its ``device`` argument says so.
    """
    wanted = kwargs.get("device")
    if wanted is not None:
        wanted = torch.device(wanted)
        return runtime().index_of(wanted) if wanted.type == "sim" else None
    if func is _aten.copy_.default and not isinstance(args[0], SimTensor):
        return None
    return _index_of(sims[0]) if sims else runtime().current_device()


def _index_of(sim: SimTensor) -> int:
    return int(sim.device.index)  # which every wrapper has


def _require_one_device(func: Any, sims: list[SimTensor], hosts: list[torch.Tensor]) -> None:
    # A zero-dimensional host tensor counts as a number.
    together = [tensor.device for tensor in (*sims, *(host for host in hosts if host.dim() > 0))]
    if any(device != together[0] for device in together[1:]):
        named = ", ".join(sorted({str(device) for device in together}))
        raise RuntimeError(f"{func} was given tensors on {named}: move them to one device first")


def _require_memory(args: tuple[Any, ...], kwargs: dict[str, Any], index: int) -> None:
    """Refuse a plain allocation that cannot fit before the host tries it; other results are charged when made."""
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    runtime().ledgers[index].require(math.prod(args[0]) * dtype.itemsize)


def _on_host(leaf: Any) -> Any:
    if isinstance(leaf, SimTensor):
        return leaf._host
    if isinstance(leaf, torch.device) and leaf.type == "sim":
        return torch.device("cpu")
    return leaf


def _kept_on_host(leaf: Any) -> Any:
    """The same for a capture, which keeps the value that a host scalar has now."""
    return leaf.clone() if _is_host(leaf) else _on_host(leaf)


def _on_device(leaf: Any, index: int, same: dict[int, SimTensor]) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if id(leaf) in same:  # in-place and out= operations give back their own argument
        return same[id(leaf)]
    runtime().tracker.charge(leaf, runtime().ledgers[index])
    return SimTensor(leaf, index)


def _follow_host(sim: SimTensor) -> None:
    """Let the wrapper follow an operation that changed its host tensor's shape or grew its storage."""
    host, index = sim._host, _index_of(sim)
    runtime().tracker.charge(host, runtime().ledgers[index])
    now = (host.size(), host.stride(), host.storage_offset())
    if now != (sim.size(), sim.stride(), sim.storage_offset()):
        sim.data = SimTensor(host, index)


def _is_host(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and not isinstance(leaf, SimTensor)
