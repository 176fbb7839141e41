"""``sglang.srt.distributed.device_communicators.pynccl``: a group's collectives by calls of NCCL's C API.

It works on whatever device the platform has, by torch's module of that device; SGLang's own speaks of ``torch.cuda``.
Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/device_communicators/pynccl.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup, ReduceOp

from ... import platforms
from ..._released import Lifetime, Parameters, absent, released
from ..utils import StatelessProcessGroup
from . import pynccl_wrapper as wrapper
from .pynccl_wrapper import NCCLLibrary, buffer_type, cudaStream_t, ncclDataTypeEnum, ncclRedOpTypeEnum, ncclUniqueId

logger = logging.getLogger(__name__)

_SYMMETRIC = 1  # NCCL_WIN_COLL_SYMMETRIC
_NO_EVENTS = 1  # of graphUsageMode: no events between the streams of a graph


class PyNcclCommunicator:
    """The ranks of a group, as NCCL knows them: each on a device of its own.

    ``available``: the library is there and the group has more than one rank. ``disabled``: every collective, send and
    receive returns None and touches nothing; so it is from the start, until :meth:`change_state`. Their work goes to
    the stream that is current on the device at the time of the call, and is complete when that stream's is. Tensors
    are on ``device``. Groups of calls, windows and ``cp_all_gather_into_tensor`` go to the library, disabled or not.

    ``group`` is not NCCL's own, or a StatelessProcessGroup; all its ranks make theirs together, and where one of them
    has no library, all are unavailable. ``library_path`` names the library (:func:`.pynccl_wrapper.find_nccl_library`
    otherwise). Raises AssertionError for a group of NCCL's, RuntimeError where the library cannot make a communicator.
    """

    available: bool = False
    disabled: bool = True
    why_unavailable: str = "it was never made"

    @released(Parameters({"is_symmetric_memory_enabled": Lifetime("0.5.17"), "cta_policy": Lifetime("0.5.23")}))
    def __init__(
        self,
        group: ProcessGroup | StatelessProcessGroup,
        device: int | str | torch.device,
        library_path: str | None = None,
        is_symmetric_memory_enabled: bool = False,
        cta_policy: int | None = None,
    ) -> None:
        """Meet the group's other ranks in a communicator, and try it once."""
        self.group = group
        self.rank, self.world_size = _place_in(group)
        self.available, self.disabled = False, True
        self.device = _device(device)
        self.why_unavailable = "the group has one rank"
        if self.world_size == 1:
            return
        library = self._library(library_path)
        if library is None:
            return
        self.nccl = library
        self.nccl_version = library.ncclGetRawVersion()
        if self.rank == 0:
            logger.info("PyNCCL of %d ranks uses %s", self.world_size, library.found)
        self.unique_id = self._shared_id()
        with self._on_device():
            self.comm = self._init(is_symmetric_memory_enabled, cta_policy)
            self.available = True
            self._warm_up()

    def _library(self, path: str | None) -> NCCLLibrary | None:
        """The library, where every rank has one."""
        library, why = None, ""
        try:
            library = NCCLLibrary(path)
            library.whose = f"rank {self.rank} of {self.world_size}"
        except Exception as error:  # whatever it is: a rank that left here would keep all others waiting
            why = str(error) or type(error).__name__
        lacking = [f"rank {rank}: {text}" for rank, text in enumerate(_told_by_all(self.group, why)) if text]
        if not lacking:
            return library
        self.why_unavailable = lacking[0]
        logger.info("PyNCCL is not available: %s", lacking[0])
        return None

    def _shared_id(self) -> ncclUniqueId:
        """The first rank's id, on all; where it has none, RuntimeError on all."""
        made: bytes | str = ""
        if self.rank == 0:
            try:
                made = bytes(self.nccl.ncclGetUniqueId())
            except RuntimeError as error:
                made = str(error)
        first = _told_by_all(self.group, made)[0]
        if isinstance(first, str):
            raise RuntimeError(f"the first rank of PyNCCL's group has no id for it: {first}")
        return ncclUniqueId.from_buffer_copy(first)

    def _init(self, symmetric: bool, cta_policy: int | None) -> ctypes.c_void_p:
        if not symmetric and cta_policy is None:
            return self.nccl.ncclCommInitRank(self.world_size, self.unique_id, self.rank)
        config = wrapper.ncclConfig_t.create()
        if symmetric:
            config.graphUsageMode = _NO_EVENTS
        if cta_policy is not None:
            config.CTAPolicy = cta_policy
        return self.nccl.ncclCommInitRankConfig(self.world_size, self.unique_id, self.rank, config)

    def _warm_up(self) -> None:
        """The first operation opens connections, which is not for a graph capture to do."""
        module = torch.get_device_module(self.device)
        with self.change_state(enable=True):
            if self.device.type == "cpu":
                self.all_reduce(torch.zeros(1))
                return
            stream = module.Stream()
            with module.stream(stream):
                self.all_reduce(torch.zeros(1, device=self.device))
            stream.synchronize()

    def _on_device(self) -> contextlib.AbstractContextManager[Any]:
        if self.device.type == "cpu":
            return contextlib.nullcontext()
        scope: contextlib.AbstractContextManager[Any] = torch.get_device_module(self.device).device(self.device)
        return scope

    def _resolve_stream(self) -> Any:
        """The stream that is current on the communicator's device, for this thread."""
        return torch.get_device_module(self.device).current_stream(self.device)

    def _stream(self) -> ctypes.c_void_p:
        return cudaStream_t(_handle(self._resolve_stream(), self.device.type))

    def _takes(self, *tensors: torch.Tensor, dense: bool = False) -> bool:
        """Whether to go on with these tensors: False while disabled.

        Raises RuntimeError where the communicator was enabled and is not available, AssertionError for a tensor on
        another device, of another type than the first, or whose elements do not lie one after the other; where only
        their places in memory count (``dense``), those of any order may.
        """
        if self.disabled:
            return False
        self._require_available()
        for tensor in tensors:
            assert tensor.device == self.device, (
                f"PyNCCL works on {self.device} here, and a tensor is on {tensor.device}"
            )
            assert tensor.dtype == tensors[0].dtype, f"PyNCCL got tensors of {tensors[0].dtype} and {tensor.dtype}"
            lies_well = tensor.is_contiguous() or (dense and _is_dense(tensor))
            assert lies_well, f"PyNCCL got {tuple(tensor.shape)} with strides {tensor.stride()}: make it contiguous"
        return True

    def _require_available(self) -> None:
        if not self.available:
            raise RuntimeError(f"PyNCCL was called on a group that does not have it: {self.why_unavailable}")

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp.RedOpType = ReduceOp.SUM) -> None:
        """Reduce every rank's tensor into each of them."""
        if self._takes(tensor, dense=True):
            self._all_reduce(tensor, tensor, op)

    def outplace_all_reduce(
        self, in_tensor: torch.Tensor, out_tensor: torch.Tensor | None = None, op: ReduceOp.RedOpType = ReduceOp.SUM
    ) -> torch.Tensor | None:
        """The same into another tensor, a new one by default, which is returned; None while disabled."""
        if not self._takes(in_tensor, dense=True):
            return None
        out = torch.empty_like(in_tensor) if out_tensor is None else out_tensor
        self._takes(in_tensor, out, dense=True)
        assert out.shape == in_tensor.shape, (
            f"the output has shape {tuple(out.shape)}, the input {tuple(in_tensor.shape)}"
        )
        assert out.stride() == in_tensor.stride(), (
            f"the output has strides {out.stride()}, the input {in_tensor.stride()}"
        )
        self._all_reduce(in_tensor, out, op)
        return out

    def _all_reduce(self, source: torch.Tensor, target: torch.Tensor, op: ReduceOp.RedOpType) -> None:
        self.nccl.ncclAllReduce(
            _buffer(source),
            _buffer(target),
            source.numel(),
            ncclDataTypeEnum.from_torch(source.dtype),
            ncclRedOpTypeEnum.from_torch(op),
            self.comm,
            self._stream(),
        )

    def all_gather(
        self, output_tensor: torch.Tensor, input_tensor: torch.Tensor, sizes: Sequence[int] | None = None
    ) -> None:
        """Write every rank's input into the output, one after the other; rank r has ``sizes[r]`` rows, or all alike."""
        if not self._takes(output_tensor, input_tensor):
            return
        code, stream = ncclDataTypeEnum.from_torch(input_tensor.dtype), self._stream()
        if sizes is None:
            self._require(output_tensor.numel(), self.world_size * input_tensor.numel(), "output")
            source, target, elements = _buffer(input_tensor), _buffer(output_tensor), input_tensor.numel()
            self.nccl.ncclAllGather(source, target, elements, code, self.comm, stream)
            return
        rows = self._rows(output_tensor, sizes)
        self._require(input_tensor.numel(), rows[self.rank].numel(), "input")
        with self._grouped():
            for root, part in enumerate(rows):
                source, target = _buffer(input_tensor), _buffer(part)
                self.nccl.ncclBroadcast(source, target, part.numel(), code, root, self.comm, stream)

    def cp_all_gather_into_tensor(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        stream: Any,
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Write every rank's input into the output, on that stream, enabled or not; ``sizes`` are not looked at."""
        self._require_available()
        self.nccl.ncclAllGather(
            _buffer(input_tensor),
            _buffer(output_tensor),
            input_tensor.numel(),
            ncclDataTypeEnum.from_torch(input_tensor.dtype),
            self.comm,
            cudaStream_t(_handle(stream, self.device.type)),
        )

    def reduce_scatter(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        op: ReduceOp.RedOpType = ReduceOp.SUM,
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Write this rank's part of the reduction of all inputs into the output: ``sizes[rank]`` rows, or its share."""
        if not self._takes(output_tensor, input_tensor):
            return
        code, stream = ncclDataTypeEnum.from_torch(input_tensor.dtype), self._stream()
        reduction = ncclRedOpTypeEnum.from_torch(op)
        if sizes is None:
            self._require(input_tensor.numel(), self.world_size * output_tensor.numel(), "input")
            source, target, elements = _buffer(input_tensor), _buffer(output_tensor), output_tensor.numel()
            self.nccl.ncclReduceScatter(source, target, elements, code, reduction, self.comm, stream)
            return
        rows = self._rows(input_tensor, sizes)
        self._require(output_tensor.numel(), rows[self.rank].numel(), "output")
        with self._grouped():
            for root, part in enumerate(rows):
                source, target = _buffer(part), _buffer(output_tensor)
                self.nccl.ncclReduce(source, target, part.numel(), code, reduction, root, self.comm, stream)

    def send(self, tensor: torch.Tensor, dst: int) -> None:
        """Send a tensor to the rank at that place of the group."""
        if self._takes(tensor):
            code = ncclDataTypeEnum.from_torch(tensor.dtype)
            self.nccl.ncclSend(_buffer(tensor), tensor.numel(), code, dst, self.comm, self._stream())

    def recv(self, tensor: torch.Tensor, src: int) -> None:
        """Receive into a tensor what the rank at that place of the group sends."""
        if self._takes(tensor):
            code = ncclDataTypeEnum.from_torch(tensor.dtype)
            self.nccl.ncclRecv(_buffer(tensor), tensor.numel(), code, src, self.comm, self._stream())

    def all_to_all_single(self, output_tensor: torch.Tensor, input_tensor: torch.Tensor) -> None:
        """Give each rank its equal part of the input, and write what they have for this one into the output, by rank.

        Raises AssertionError where the two are not of one size, or cannot be parted among the ranks.
        """
        if not self._takes(output_tensor, input_tensor):
            return
        elements, left = divmod(input_tensor.numel(), self.world_size)
        assert left == 0, f"{input_tensor.numel()} elements cannot be parted among {self.world_size} ranks"
        self._require(output_tensor.numel(), input_tensor.numel(), "output")
        code, stream = ncclDataTypeEnum.from_torch(input_tensor.dtype), self._stream()
        source, target, step = input_tensor.data_ptr(), output_tensor.data_ptr(), elements * input_tensor.element_size()
        with self._grouped():
            for peer in range(self.world_size):
                self.nccl.ncclSend(buffer_type(source + peer * step), elements, code, peer, self.comm, stream)
                self.nccl.ncclRecv(buffer_type(target + peer * step), elements, code, peer, self.comm, stream)

    def broadcast(self, tensor: torch.Tensor, src: int) -> None:
        """Write the tensor of the rank at that place of the group into every rank's."""
        if self._takes(tensor):
            code, own = ncclDataTypeEnum.from_torch(tensor.dtype), _buffer(tensor)
            source = own if src == self.rank else buffer_type()
            self.nccl.ncclBroadcast(source, own, tensor.numel(), code, src, self.comm, self._stream())

    def register_comm_window_raw(self, ptr: int, size: int) -> ctypes.c_void_p:
        """Let the library know ``size`` bytes, which every rank has at an address of its own; gives the window."""
        return self.nccl.ncclCommWindowRegister(self.comm, buffer_type(ptr), size, _SYMMETRIC)

    def deregister_comm_window(self, window: ctypes.c_void_p) -> None:
        """Let the library forget a window."""
        self.nccl.ncclCommWindowDeregister(self.comm, window)

    def group_start(self) -> None:
        """Keep this thread's operations until :meth:`group_end`, and then do them all at once."""
        self._require_available()
        self.nccl.ncclGroupStart()

    def group_end(self) -> None:
        """End a group of operations."""
        self._require_available()
        self.nccl.ncclGroupEnd()

    @contextlib.contextmanager
    def _grouped(self) -> Iterator[None]:
        self.group_start()
        try:
            yield
        except BaseException:
            with contextlib.suppress(RuntimeError):  # which would only say again what failed
                self.group_end()
            raise
        self.group_end()

    @contextlib.contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        """A scope in which the communicator is enabled or not, by default as far as it is available."""
        before, self.disabled = self.disabled, not (self.available if enable is None else enable)
        try:
            yield
        finally:
            self.disabled = before

    def destroy(self) -> None:
        """Give the communicator back, on all ranks. Of the reference alone: SGLang keeps it while the process lives."""
        if self.available:
            self.available, self.disabled = False, True
            self.why_unavailable = "it was destroyed"
            self.nccl.ncclCommDestroy(self.comm)

    def _rows(self, tensor: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
        """A tensor's rows, by the rank whose they are."""
        assert len(sizes) == self.world_size, f"there are {len(sizes)} sizes for {self.world_size} ranks"
        fits = min(sizes) >= 0 and tensor.shape[0] == sum(sizes)
        assert fits, f"the sizes {list(sizes)} are not those of {tensor.shape[0]} rows"
        return [tensor[last - size : last] for last, size in zip(itertools.accumulate(sizes), sizes, strict=True)]

    def _require(self, elements: int, wanted: int, what: str) -> None:
        assert elements == wanted, (
            f"the {what} has {elements} elements, and needs {wanted} in a group of {self.world_size}"
        )


def _place_in(group: ProcessGroup | StatelessProcessGroup) -> tuple[int, int]:
    """The number of this rank in a group, and how many there are."""
    if isinstance(group, StatelessProcessGroup):
        return group.rank, group.world_size
    assert dist.is_initialized(), "PyNCCL meets over a group of torch.distributed, which is not initialized"
    assert dist.get_backend(group) != dist.Backend.NCCL, "PyNCCL cannot meet over a group of NCCL's: give it another"
    return dist.get_rank(group), dist.get_world_size(group)


def _told_by_all(group: ProcessGroup | StatelessProcessGroup, thing: Any) -> list[Any]:
    """What every rank says."""
    if isinstance(group, StatelessProcessGroup):
        return group.all_gather_obj(thing)
    said: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(said, thing, group=group)
    return said


def _device(device: int | str | torch.device) -> torch.device:
    """The device as tensors name it; a bare number is one of the platform's, and the host has none."""
    kind = platforms.current_platform.device_type
    found = torch.device(kind, device) if isinstance(device, int) else torch.device(device)
    return torch.device("cpu") if found.type == "cpu" else found


def _buffer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return buffer_type(tensor.data_ptr())


def _handle(stream: Any, kind: str) -> int | None:
    """The number by which a device's own libraries know a stream; None for the host, which has no streams."""
    if kind == "cpu":
        return None
    for name in ("cuda_stream", f"{kind}_stream", "native_handle"):
        handle = getattr(stream, name, None)
        if handle is not None:
            return int(handle)
    raise TypeError(f"streams of {kind} tell no handle: neither cuda_stream nor {kind}_stream nor native_handle")


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements fill their memory without a gap, each once, in whatever order."""
    expected = 1
    for stride, length in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= length
    return True


for _method in absent({"all_to_all_single": Lifetime("0.5.17"), "cp_all_gather_into_tensor": Lifetime(gone="0.5.16")}):
    delattr(PyNcclCommunicator, _method)
