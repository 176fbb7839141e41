"""Right custom all-reduces, made otherwise."""

from __future__ import annotations

from sglang_conformance.requirements import loader
from zoo.workshop import Edit, Variant

ALL = tuple(r.id for r in loader.load() if r.area == "CAR")

_FILE = "custom_all_reduce.py"
_HOOK = "    HookRegistry.register(CUSTOM_ALL_REDUCE, class_of_custom_all_reduce, HookType.AROUND)\n"
_CHOSEN = "    return SimCustomAllreduce\n"
_WITHOUT_GRAPHS = Edit("releases.py", '{"graph_capture": True}', '{"graph_capture": False}')

_FUSSY = '''

class Fussy(SimCustomAllreduce):
    """Takes only small contiguous tensors of sixteen bits that begin at a multiple of 16, and fails on others."""

    def should_custom_ar(self, tensor):
        item = tensor.element_size()
        if not super().should_custom_ar(tensor) or item != 2 or not tensor.is_contiguous():
            return False
        return tensor.numel() * item <= 1 << 16 and tensor.storage_offset() * item % PACK == 0

    def custom_all_reduce(self, tensor):
        assert self.should_custom_ar(tensor), "no plan for this tensor"
        return super().custom_all_reduce(tensor)


SimCustomAllreduce = Fussy
'''

_WARM = '''

class Warm(SimCustomAllreduce):
    """As SGLang's first generation: within a capture, what no graph captures is only made room for."""

    capturing = False

    @contextlib.contextmanager
    def capture(self):
        try:
            self.capturing = True
            yield
        finally:
            self.capturing = False

    def custom_all_reduce(self, tensor):
        if self.capturing and self.should_custom_ar(tensor) and current_stream(self.device).graph is None:
            return torch.zeros_like(tensor)
        return super().custom_all_reduce(tensor)


SimCustomAllreduce = Warm
'''

_OWN = '''
"""A custom all-reduce that has nothing but what the core calls: it gathers on the host, and adds up backwards."""

import contextlib
import threading

import torch
import torch.distributed as dist

_ENABLED = torch.ones(1, dtype=torch.int8)


class Backwards:
    __slots__ = ("_group", "_lock", "_size", "disabled")

    def __init__(self, group):
        self._group, self._size, self._lock = group, dist.get_world_size(group), threading.Lock()
        self.disabled = True
        if self._size > 1:
            said = [torch.zeros(1, dtype=torch.int8) for _ in range(self._size)]
            dist.all_gather(said, _ENABLED, group=group)
            self.disabled = False

    def should_custom_ar(self, tensor):
        known = tensor.dtype in (torch.bfloat16, torch.float16, torch.float32, torch.int32, torch.int64, torch.uint8)
        return not self.disabled and known and tensor.device.type != "cpu" and tensor.numel() <= 200_001

    def custom_all_reduce(self, tensor):
        host = tensor.detach().cpu().contiguous()
        parts = [torch.empty_like(host) for _ in range(self._size)]
        with self._lock:
            dist.all_gather(parts, host, group=self._group)
        short = host.dtype in (torch.bfloat16, torch.float16)
        total = torch.zeros_like(host, dtype=torch.float32 if short else host.dtype)
        for part in reversed(parts):
            total += part
        return torch.empty_like(tensor).copy_(total.to(host.dtype))

    @contextlib.contextmanager
    def capture(self):
        yield


def choose(original, *args, **kwargs):
    """In the class's place, a function that makes an object of it."""
    return lambda group, device: Backwards(group)


def choose_none(original, *args, **kwargs):
    """SGLang goes without: it is given to the group."""
    raise AssertionError("the group is given one by another way")


def give(original, group, *args, **kwargs):
    original(group, *args, **kwargs)
    if kwargs.get("use_custom_allreduce") and group.world_size > 1:
        group.ca_comm = Backwards(group.cpu_group)
'''


def _hooked(choice: str, *further: str) -> Edit:
    lines = (
        "    from sglang_simulated import own\n\n",
        f"    HookRegistry.register(CUSTOM_ALL_REDUCE, own.{choice}, HookType.AROUND)\n",
        *further,
    )
    return Edit("hooks.py", _HOOK, "".join(lines))


VARIANTS = (
    Variant(
        "car-by-a-class-with-arguments",
        ALL,
        (
            Edit(
                "hooks.py",
                _CHOSEN,
                "    import functools\n\n    return functools.partial(SimCustomAllreduce, max_size=1 << 18)\n",
            ),
        ),
        "SGLang's own choice gives a class with some of its arguments on ROCm (0.5.23, custom_all_reduce.py)",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "car-of-few-tensors",
        ALL,
        (Edit(_FILE, "", _FUSSY),),
        "which tensors it accepts is its own affair; SGLang calls it for none else, its second generation fails there",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "car-of-any-length",
        ALL,
        (Edit(_FILE, "PACK = 16 ", "PACK = 1 "),),
        "a multiple of 16 bytes is what SGLang's kernels need, not what SGLang needs",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "car-that-only-makes-room-in-a-warm-up",
        ALL,
        (Edit(_FILE, "", _WARM),),
        "SGLang's first generation does so",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "car-for-three-ranks-and-more",
        ALL,
        (Edit(_FILE, "SIZES = range(2, 9)", "SIZES = range(3, 9)"),),
        "which sizes it serves is its own affair: SGLang's first generation serves four of them",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "car-made-by-a-function",
        ALL,
        (_hooked("choose"), Edit("own.py", "", _OWN), _WITHOUT_GRAPHS),
        "SGLang calls what its choice gives, and then four names of what that gives; any order of adding up is right",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "car-given-to-the-group",
        ALL,
        (
            _hooked(
                "choose_none",
                "    HookRegistry.register(\n"
                '        "sglang.srt.distributed.parallel_state.GroupCoordinator.__init__", own.give, HookType.AROUND\n'
                "    )\n",
            ),
            Edit("own.py", "", _OWN),
            _WITHOUT_GRAPHS,
        ),
        "SGLang calls what the group has as ca_comm, whoever gave it",
        of="sim",
        deadline=20.0,
    ),
)
