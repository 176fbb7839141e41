"""Right PyNCCL communicators, made otherwise."""

from __future__ import annotations

from sglang_conformance.requirements import loader
from zoo.workshop import Edit, Variant

ALL = tuple(r.id for r in loader.load() if r.area == "NCCL")

_MADE = '    HookRegistry.register(f"{COMMUNICATOR}.__init__", make_communicator, HookType.AROUND)\n'
_STREAM = '    HookRegistry.register(f"{COMMUNICATOR}._resolve_stream", resolve_stream, HookType.REPLACE)\n'

_FINDS = """\
    HookRegistry.register(
        "sglang.srt.distributed.device_communicators.pynccl_wrapper.find_nccl_library", lambda: "host", HookType.REPLACE
    )
"""

_REPLACES = """\
    from sglang.srt.distributed.device_communicators.pynccl import PyNcclCommunicator

    class Own(PyNcclCommunicator):
        def __init__(self, group, device, *args, **kwargs):
            make_communicator(None, self, group, device)

        def _resolve_stream(self):
            return resolve_stream(self)

    HookRegistry.register(COMMUNICATOR, Own, HookType.REPLACE)
"""

_FACTORIES = "    # Factories return a class or a name, and leave making the object to SGLang.\n"
_NAMES = """\
    def get_communicator_class(self):
        from sglang.srt.distributed.device_communicators import pynccl

        return pynccl.PyNcclCommunicator

"""

_GIVES = """\
    HookRegistry.register(
        "sglang.srt.distributed.parallel_state.GroupCoordinator.__init__", give_communicator, HookType.AROUND
    )
"""

_GIVING = """

def give_communicator(original, group, *args, **kwargs):
    original(group, *args, **{**kwargs, "use_pynccl": False})
    if kwargs.get("use_pynccl") and group.world_size > 1:
        from sglang_simulated.own import ByHost

        group.pynccl_comm = ByHost(group)
"""

_OWN = '''
"""A communicator that shares nothing with SGLang's class but what the core calls; all goes by way of the host."""

import contextlib

import torch
import torch.distributed as dist


class ByHost:
    def __init__(self, group):
        self.group, self.rank, self.world_size = group.cpu_group, group.rank_in_group, group.world_size
        self.device, self.ranks = group.device, group.ranks
        self.available, self.disabled, self.waiting = True, True, None

    @contextlib.contextmanager
    def change_state(self, enable=None):
        before = self.disabled
        self.disabled = enable is False
        try:
            yield
        finally:
            self.disabled = before

    def group_start(self):
        self.waiting = []

    def group_end(self):
        waiting, self.waiting = self.waiting, None
        works = [work for work in (begin() for begin in sorted(waiting, key=lambda b: b.__name__)) if work]
        for work in works:
            work()

    def _do(self, begin):
        """Begin now, or with all others at the end of the group; what is begun gives what completes it."""
        if self.waiting is not None:
            self.waiting.append(begin)
        else:
            complete = begin()
            if complete:
                complete()

    def _host(self, *tensors):
        for tensor in tensors:
            if tensor.device != self.device:
                raise ValueError(f"on {tensor.device}, not {self.device}")
            if tensor.dtype in (torch.complex64, torch.int16):
                raise ValueError(f"no {tensor.dtype}")
        return [tensor.detach().cpu().contiguous() for tensor in tensors]

    def all_reduce(self, tensor, op=dist.ReduceOp.SUM):
        if not self.disabled:
            self.outplace_all_reduce(tensor, tensor, op)

    def outplace_all_reduce(self, tensor, out=None, op=dist.ReduceOp.SUM):
        if self.disabled:
            return None
        out = torch.empty_like(tensor) if out is None else out
        self._host(tensor, out)

        def a_reduce():
            (host,) = self._host(tensor)
            average = op == dist.ReduceOp.AVG
            dist.all_reduce(host, dist.ReduceOp.SUM if average else op, group=self.group)
            out.copy_(host / self.world_size if average else host)

        self._do(a_reduce)
        return out

    def all_gather(self, output, input, sizes=None):
        if self.disabled:
            return
        rows = sizes or [input.shape[0]] * self.world_size

        def b_gather():
            (host,) = self._host(input)
            first = 0
            for root, count in enumerate(rows):
                part = host.clone() if root == self.rank else torch.empty((count, *input.shape[1:]), dtype=host.dtype)
                dist.broadcast(part, self.ranks[root], group=self.group)
                output[first : first + count].copy_(part)
                first += count

        self._host(output, input)
        self._do(b_gather)

    def reduce_scatter(self, output, input, op=dist.ReduceOp.SUM, sizes=None):
        if self.disabled:
            return
        rows = sizes or [output.shape[0]] * self.world_size
        whole = torch.empty_like(input)
        self._host(output, input)
        self.outplace_all_reduce(input, whole, op)
        first = sum(rows[: self.rank])
        output.copy_(whole[first : first + rows[self.rank]])

    def broadcast(self, tensor, src):
        if self.disabled:
            return
        if not 0 <= src < self.world_size:
            raise ValueError(f"there is no rank {src}")

        def c_broadcast():
            (host,) = self._host(tensor)
            dist.broadcast(host, self.ranks[src], group=self.group)
            tensor.copy_(host)

        self._host(tensor)
        self._do(c_broadcast)

    def send(self, tensor, dst):
        if not self.disabled:
            (host,) = self._host(tensor)
            self._do(lambda: self._sending(host, dst))

    def _sending(self, host, dst):
        work = dist.isend(host, self.ranks[dst], group=self.group)
        return work.wait

    def recv(self, tensor, src):
        if self.disabled:
            return

        def z_receive():
            (host,) = self._host(tensor)
            work = dist.irecv(host, self.ranks[src], group=self.group)

            def complete():
                work.wait()
                tensor.copy_(host)

            return complete

        self._do(z_receive)

    def all_to_all_single(self, output, input):
        if self.disabled:
            return
        if input.numel() != output.numel() or input.numel() % self.world_size:
            raise ValueError("it cannot be parted")
        given, taken = self._host(input, output)
        dist.all_to_all_single(taken, given, group=self.group)
        output.copy_(taken)
'''

VARIANTS = (
    Variant(
        "pynccl-by-sglangs-own-class",
        ALL,
        (Edit("hooks.py", f"{_MADE}{_STREAM}", _FINDS),),
        "a library of NCCL's API that is named by a hook is all that SGLang's class needs where it goes by the device",
        of="sim",
    ),
    Variant(
        "pynccl-by-a-class-in-its-place",
        ALL,
        (Edit("hooks.py", f"{_MADE}{_STREAM}", _REPLACES), Edit("platform.py", _FACTORIES, f"{_NAMES}{_FACTORIES}")),
        "SGLang makes what stands under the class's name",
        of="sim",
    ),
    Variant(
        "pynccl-given-to-the-group",
        ALL,
        (
            Edit("hooks.py", f"{_MADE}{_STREAM}", _GIVES),
            Edit("hooks.py", "", _GIVING),
            Edit("own.py", "", _OWN),
            Edit("releases.py", '{"graph_capture": True}', '{"graph_capture": False}'),
        ),
        "SGLang calls what the group has as pynccl_comm, of whatever class; without graphs nothing of it is captured",
        of="sim",
        deadline=20.0,
    ),
)
