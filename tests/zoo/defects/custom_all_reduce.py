"""Wrong custom all-reduces: the simulated accelerator's, with one small change."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_FILE = "custom_all_reduce.py"
_DEADLINE = 8.0  # of those that leave a rank waiting, too
_REGISTERED = "    HookRegistry.register(CUSTOM_ALL_REDUCE, class_of_custom_all_reduce, HookType.AROUND)\n"
_MODULE = "sglang.srt.distributed.parallel_state."
_GROUP = f"{_MODULE}GroupCoordinator."


def _added(name: str, requirement: str, code: str, also: tuple[str, ...], world_size: str) -> Defect:
    edit = Edit(_FILE, "", f"\n\n{code}")
    return Defect(name, requirement, (edit,), of="sim", also=also, deadline=_DEADLINE, world_size=world_size)


def _module(name: str, requirement: str, *lines: str, also: tuple[str, ...] = (), world_size: str = "2") -> Defect:
    """Something else in the module, at its end."""
    return _added(name, requirement, "".join(f"{line}\n" for line in lines), also, world_size)


def _method(
    name: str,
    requirement: str,
    method: str,
    given: str,
    *lines: str,
    also: tuple[str, ...] = (),
    world_size: str = "2",
) -> Defect:
    """A method of the class, of these lines; ``right`` is the one before, ``kept`` is the class's own."""
    body = "".join(f"        {line}\n" for line in lines)
    code = (
        f"def _make_wrong(right, kept):\n    import time\n\n    def {method}({given}):\n"
        f"{body}\n    return {method}\n\n\n"
        f"SimCustomAllreduce.{method} = _make_wrong(SimCustomAllreduce.{method}, {{}})\n"
    )
    return _added(name, requirement, code, also, world_size)


def _sum(name: str, requirement: str, *lines: str, also: tuple[str, ...] = (), world_size: str = "2") -> Defect:
    """Another reduction."""
    return _method(name, requirement, "custom_all_reduce", "self, tensor", *lines, also=also, world_size=world_size)


def _asked(name: str, requirement: str, *lines: str, also: tuple[str, ...] = ()) -> Defect:
    """Another answer."""
    return _method(name, requirement, "should_custom_ar", "self, tensor", *lines, also=also)


def _made(name: str, requirement: str, *lines: str, also: tuple[str, ...] = ()) -> Defect:
    """Another way of making it."""
    return _method(name, requirement, "__init__", "self, group, *args, **kwargs", *lines, also=also)


def _capture(name: str, requirement: str, *lines: str, reducing: tuple[str, ...] = ()) -> Defect:
    """Another scope of captures; ``reducing``: another reduction, too."""
    scope = "".join(f"    {line}\n" for line in lines)
    code = f"@contextlib.contextmanager\ndef _scope(self):\n{scope}\n\nSimCustomAllreduce.capture = _scope\n"
    if reducing:
        body = "".join(f"        {line}\n" for line in reducing)
        code += (
            f"\n\ndef _make_wrong(right):\n    def custom_all_reduce(self, tensor):\n{body}\n"
            "    return custom_all_reduce\n\n\n"
            "SimCustomAllreduce.custom_all_reduce = _make_wrong(SimCustomAllreduce.custom_all_reduce)\n"
        )
    return _added(name, requirement, code, (), "2")


def _hook(name: str, requirement: str, target: str, given: str, *lines: str, kind: str = "AROUND") -> Defect:
    """A hook on something of the host's besides."""
    body = "".join(f"    {line}\n" for line in lines)
    edits = (
        Edit("hooks.py", _REGISTERED, f"{_REGISTERED}    HookRegistry.register({target!r}, wrong, HookType.{kind})\n"),
        Edit("hooks.py", "", f"\n\ndef wrong({given}):\n{body}"),
    )
    return Defect(name, requirement, edits, of="sim", deadline=_DEADLINE)


_PAST_THE_CHOICE = (
    Edit("hooks.py", _REGISTERED, f"    HookRegistry.register({_GROUP + '__init__'!r}, give, HookType.AROUND)\n"),
    Edit(
        "hooks.py",
        "",
        "\n\ndef give(original, group, *args, **kwargs):\n"
        "    original(group, *args, **{**kwargs, 'use_custom_allreduce': False})\n"
        "    if group.world_size > 1:\n"
        "        from sglang_simulated.custom_all_reduce import SimCustomAllreduce\n\n"
        "        group.ca_comm = SimCustomAllreduce(group.cpu_group, group.device)\n",
    ),
)

_GATHERED = (
    "rows = [torch.empty_like(tensor._host) for _ in range(self.world_size)]",
    "torch.distributed.all_gather(rows, tensor._host, group=self.group)",
)

_ONE_BUFFER = """
import tempfile

_ROOM = 1 << 13


class _OneBuffer:
    \"\"\"Who is quick lays down the next while others still read.\"\"\"

    def __init__(self, name, rank, size):
        self.path, self.rank, self.size, self.step = f"{tempfile.gettempdir()}/zoo-{name}", rank, size, 0
        with open(self.path, "a+b") as file:
            file.truncate(4096 + size * _ROOM)
            self.memory = mmap.mmap(file.fileno(), 4096 + size * _ROOM)
        self.steps = torch.frombuffer(self.memory, dtype=torch.int64, count=size)

    def row(self, rank, like):
        return torch.frombuffer(self.memory, dtype=like.dtype, count=like.numel(), offset=4096 + rank * _ROOM)

    def sum(self, source, target):
        self.step += 1
        self.row(self.rank, source).copy_(source)
        self.steps[self.rank] = self.step
        while int(self.steps.min()) < self.step:
            os.sched_yield()
        with contextlib.suppress(OSError):
            os.remove(self.path)  # all have it
        target.copy_(sum(self.row(rank, source).double() for rank in range(self.size)))


_init, _right_sum = SimCustomAllreduce.__init__, SimCustomAllreduce._sum


def _make(self, group, *args, **kwargs):
    _init(self, group, *args, **kwargs)
    if not self.disabled:
        name = told_in_time(group, uuid.uuid4().hex, 5.0)[0]
        self.one = _OneBuffer(name, self.rank, self.world_size)


def _sum(self, source, target):
    if source.numel() * source.element_size() > _ROOM or not source.is_floating_point():
        return _right_sum(self, source, target)
    self.one.sum(source, target)


SimCustomAllreduce.__init__, SimCustomAllreduce._sum = _make, _sum
"""

_STATES = (
    _module("car-is-declared-and-never-enabled", "CAR-001", 'obstacle = lambda said: "not today"', world_size="4"),
    _module("car-is-for-five-ranks-and-more", "CAR-001", "SIZES = range(5, 9)", world_size="4"),
    Defect("car-is-given-past-the-choice", "CAR-002", _PAST_THE_CHOICE, of="sim", deadline=_DEADLINE),
    _made(
        "car-of-one-rank-alone",
        "CAR-003",
        "right(self, group, *args, **kwargs)",
        "self.disabled = self.disabled or self.rank > 0",
        also=("CAR-001",),
    ),
    _made(
        "car-of-another-class-on-each-rank",
        "CAR-003",
        "right(self, group, *args, **kwargs)",
        "self.__class__ = type(f'Of{self.rank}', (SimCustomAllreduce,), {})",
    ),
    _module("car-cannot-be-captured", "CAR-004", "del SimCustomAllreduce.capture"),
    _method("car-wants-a-stream", "CAR-004", "custom_all_reduce", "self, tensor, stream", "return right(self, tensor)"),
    _hook(
        "car-of-one-rank",
        "CAR-005",
        f"{_GROUP}__init__",
        "original, group, *args, **kwargs",
        "original(group, *args, **kwargs)",
        "import types",
        "if group.world_size == 1:",
        "    group.ca_comm = types.SimpleNamespace(disabled=False, should_custom_ar=lambda tensor: False)",
    ),
    _hook(
        "car-is-not-to-be-switched-off",
        "CAR-006",
        f"{_MODULE}set_custom_all_reduce",
        "original, enable",
        "return None",
    ),
    _asked("car-answers-as-if-enabled", "CAR-007", "return not refusal(tensor, self.max_size)"),
    _module(
        "car-cannot-be-disabled",
        "CAR-007",
        "SimCustomAllreduce.disabled = property(lambda self: self.original_disabled)",
        "SimCustomAllreduce.disabled = SimCustomAllreduce.disabled.setter(lambda self, value: None)",
    ),
    _module(
        "car-loses-one-after-having-been-disabled",
        "CAR-008",
        "_ask, _rightly = SimCustomAllreduce.should_custom_ar, SimCustomAllreduce.custom_all_reduce",
        "def _asked(self, tensor):",
        "    self.lose = self.disabled or getattr(self, 'lose', False)",
        "    return _ask(self, tensor)",
        "def _reduce(self, tensor):",
        "    lose, self.lose = getattr(self, 'lose', False), False",
        "    out = _rightly(self, tensor)",
        "    return tensor.clone() if lose else out",
        "SimCustomAllreduce.should_custom_ar, SimCustomAllreduce.custom_all_reduce = _asked, _reduce",
    ),
    _capture("car-is-disabled-after-a-capture", "CAR-009", "yield", "self.disabled = True"),
    _capture(
        "car-is-captured-once",
        "CAR-009",
        "assert not getattr(self, 'captured', False), 'it has been captured'",
        "yield",
        "self.captured = True",
    ),
    _capture("car-swallows-the-error-of-a-capture", "CAR-010", "with contextlib.suppress(Exception):", "    yield"),
    _capture(
        "car-hides-the-error-of-a-capture",
        "CAR-010",
        "try:",
        "    yield",
        "except ValueError:",
        "    raise RuntimeError('cannot register the buffers of a capture that has failed')",
    ),
    _capture(
        "car-stays-in-a-capture-that-failed",
        "CAR-010",
        "self.capturing = True",
        "yield",
        "self.capturing = False",
        reducing=(
            "if getattr(self, 'capturing', False):",
            "    return torch.zeros_like(tensor)",
            "return right(self, tensor)",
        ),
    ),
    _capture("car-must-be-enabled-for-a-capture", "CAR-011", "assert not self.disabled", "yield"),
    _capture("car-is-enabled-by-a-capture", "CAR-011", "yield", "self.disabled = False"),
    _capture(
        "car-gives-what-was-there-in-a-warm-up",
        "CAR-012",
        "self.capturing = True",
        "try:",
        "    yield",
        "finally:",
        "    self.capturing = False",
        reducing=(
            "if getattr(self, 'capturing', False):",
            "    return torch.full_like(tensor, float('nan'))",
            "return right(self, tensor)",
        ),
    ),
    _capture(
        "car-gives-nothing-in-a-warm-up",
        "CAR-012",
        "self.capturing = True",
        "try:",
        "    yield",
        "finally:",
        "    self.capturing = False",
        reducing=("if getattr(self, 'capturing', False):", "    return None", "return right(self, tensor)"),
    ),
    _capture(
        "car-is-in-one-capture-at-a-time",
        "CAR-060",
        "assert not getattr(self, 'within', False), 'it is being captured'",
        "self.within = True",
        "try:",
        "    yield",
        "finally:",
        "    self.within = False",
    ),
    _hook(
        "car-is-gone-round-by-the-group",
        "CAR-013",
        f"{_GROUP}all_reduce",
        "original, group, tensor",
        "found, group.ca_comm = group.ca_comm, None",
        "try:",
        "    return original(group, tensor)",
        "finally:",
        "    group.ca_comm = found",
    ),
)

_TENSORS = (
    _asked("car-accepts-integers-alone", "CAR-014", "return right(self, tensor) and tensor.dtype == torch.int32"),
    _asked(
        "car-goes-by-its-rank", "CAR-015", "return right(self, tensor) and (self.rank == 0 or tensor.numel() != 64)"
    ),
    _asked("car-goes-by-addresses", "CAR-015", "return right(self, tensor) and tensor.data_ptr() % 128 == 0"),
    _asked(
        "car-has-had-enough",
        "CAR-016",
        "self.asked = getattr(self, 'asked', 0) + 1",
        "return right(self, tensor) and self.asked < 100",
    ),
    _asked(
        "car-takes-what-it-has-seen",
        "CAR-016",
        "known = kept.setdefault(tensor.data_ptr(), tensor) is not tensor",
        "return right(self, tensor) and (known or len(kept) % 16 != 0)",
    ),
    _asked("car-asks-the-others", "CAR-017", "told_in_time(self.group, '?', 0.5)", "return right(self, tensor)"),
    _asked(
        "car-looks-for-nan",
        "CAR-018",
        "return right(self, tensor) and not bool(tensor.isnan().any())",
    ),
    _module(
        "car-loses-the-rest-of-a-pack",
        "CAR-019",
        "PACK = 1",
        "_rightly = SimCustomAllreduce.custom_all_reduce",
        "def _reduce(self, tensor):",
        "    whole = tensor.numel() * tensor.element_size() // 16 * 16 // tensor.element_size()",
        "    if whole == tensor.numel() or not tensor.is_contiguous():",
        "        return _rightly(self, tensor)",
        "    out = tensor.clone()",
        "    if whole:",
        "        out.view(-1)[:whole] = _rightly(self, tensor.reshape(-1)[:whole].clone())",
        "    return out",
        "SimCustomAllreduce.custom_all_reduce = _reduce",
    ),
    _sum(
        "car-leaves-a-rank-without-a-pack",
        "CAR-020",
        "if tensor.numel() * tensor.element_size() < 16 * self.world_size:",
        "    return torch.zeros_like(tensor)",
        "return right(self, tensor)",
    ),
    _sum(
        "car-leaves-out-the-last-packs",
        "CAR-020",
        "out, packs = right(self, tensor), tensor.numel() * tensor.element_size() // 16",
        "left = packs % self.world_size * 16 // tensor.element_size()",
        "if left and out.is_contiguous():",
        "    out.view(-1)[-left:] = 0",
        "return out",
        also=("CAR-014",),
    ),
    _sum(
        "car-takes-a-way-through-float32",
        "CAR-021",
        "if tensor.dtype != torch.float64:",
        "    return right(self, tensor)",
        "return right(self, tensor.float()).double()",
    ),
    _module(
        "car-adds-up-bytes",
        "CAR-021",
        "TYPES = TYPES | {torch.uint8, torch.int16}",
        "_rightly = SimCustomAllreduce.custom_all_reduce",
        "SimCustomAllreduce.custom_all_reduce = lambda self, tensor: (",
        "    _rightly(self, tensor.view(torch.uint8)).view(torch.int16)",
        "    if tensor.dtype == torch.int16 and tensor.is_contiguous() else _rightly(self, tensor))",
    ),
    _asked(
        "car-accepts-eight-bits-and-fails",
        "CAR-061",
        "return right(self, tensor) or not self.disabled and tensor.dtype == torch.float8_e5m2",
    ),
    _module(
        "car-takes-gaps-for-elements",
        "CAR-022",
        "_fills_its_memory = lambda tensor: True",
    ),
    _sum(
        "car-forgets-the-order-of-dimensions",
        "CAR-022",
        "if tensor.is_contiguous():",
        "    return right(self, tensor)",
        "flat = tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())",
        "return right(self, flat.clone()).view(tensor.shape)",
    ),
    _module(
        "car-goes-by-the-length-of-the-storage",
        "CAR-023",
        "def _fills_its_memory(tensor):",
        "    host = tensor._host",
        "    behind = host.untyped_storage().nbytes() - host.storage_offset() * host.element_size()",
        "    return host.is_contiguous() or behind == host.numel() * host.element_size()",
    ),
    _sum(
        "car-is-short-by-a-pack-at-its-maximum",
        "CAR-024",
        "out = right(self, tensor)",
        "if out is not None and tensor.numel() * tensor.element_size() > self.max_size - 16:",
        "    out.view(-1)[-1] = 0",
        "return out",
    ),
    _sum(
        "car-is-wrong-at-a-threshold",
        "CAR-024",
        "out = right(self, tensor)",
        "if out is not None and tensor.numel() * tensor.element_size() == (1 << 15) + 16:",
        "    out.view(-1)[-1] = 0",
        "return out",
    ),
    _made(
        "car-has-another-maximum-on-each-rank",
        "CAR-024",
        "right(self, group, *args, **kwargs)",
        "self.max_size -= 16 * self.rank",
    ),
    _hook(
        "car-leaves-what-it-refuses",
        "CAR-025",
        f"{_GROUP}all_reduce",
        "original, group, tensor",
        "found = group.ca_comm",
        "if found is None or found.should_custom_ar(tensor) or tensor.numel() < 1000:",
        "    return original(group, tensor)",
        "return tensor",
    ),
    _sum(
        "car-gives-zeros-for-what-it-refuses",
        "CAR-026",
        "out = right(self, tensor)",
        "return torch.zeros_like(tensor) if out is None else out",
    ),
    _asked(
        "car-divides-by-no-elements",
        "CAR-027",
        "return self.max_size // (tensor.numel() * tensor.element_size()) > 0 and right(self, tensor)",
    ),
    _module(
        "car-accepts-what-is-empty-and-fails",
        "CAR-027",
        "_ask = SimCustomAllreduce.should_custom_ar",
        "SimCustomAllreduce.should_custom_ar = lambda self, tensor: tensor.numel() == 0 or _ask(self, tensor)",
        "_row = lambda tensor: tensor._host.detach().as_strided((tensor.numel() or 1 << 40,), (1,))",
    ),
)

_VALUES = (
    _sum(
        "car-counts-itself-twice", "CAR-028", "out = right(self, tensor)", "return out if out is None else out + tensor"
    ),
    _sum(
        "car-leaves-itself-out", "CAR-028", "out = right(self, tensor)", "return out if out is None else out - tensor"
    ),
    _asked("car-accepts-and-then-refuses", "CAR-028", "return not self.disabled and tensor.numel() != 1"),
    _sum(
        "car-has-one-room-for-all-results",
        "CAR-029",
        "out = right(self, tensor)",
        "if out is None:",
        "    return None",
        "return kept.setdefault((out.dtype, out.shape, out.stride()), out).copy_(out)",
    ),
    _sum(
        "car-has-room-for-two-results",
        "CAR-029",
        "out = right(self, tensor)",
        "if out is None:",
        "    return None",
        "self.turn = 1 - getattr(self, 'turn', 0)",
        "return kept.setdefault((self.turn, out.dtype, out.shape, out.stride()), out).copy_(out)",
    ),
    _sum(
        "car-has-room-for-a-few-dozen-results",
        "CAR-029",
        "out = right(self, tensor)",
        "if out is None:",
        "    return None",
        "self.turn = (getattr(self, 'turn', 0) + 1) % 64",
        "return kept.setdefault((self.turn, out.dtype, out.shape, out.stride()), out).copy_(out)",
    ),
    _sum(
        "car-reduces-in-place",
        "CAR-029",
        "out = right(self, tensor)",
        "return out if out is None else tensor.copy_(out)",
        also=("CAR-028",),
    ),
    _sum(
        "car-gives-rows",
        "CAR-030",
        "out = right(self, tensor)",
        "return out if out is None else out.contiguous()",
    ),
    _sum(
        "car-leaves-the-sum-in-its-input",
        "CAR-031",
        "out = right(self, tensor)",
        "if out is not None:",
        "    tensor.copy_(out)",
        "return out",
    ),
    _sum(
        "car-writes-behind-its-input",
        "CAR-031",
        "host = tensor._host",
        "end = host.storage_offset() + host.numel()",
        "if host.is_contiguous() and (end + 1) * host.element_size() <= host.untyped_storage().nbytes():",
        "    host.as_strided((1,), (1,), end).fill_(0)",
        "return right(self, tensor)",
    ),
    _sum(
        "car-leaves-the-last-as-it-was",
        "CAR-032",
        "done = right(self, tensor)",
        "if done is None or done.numel() < 50_000:",
        "    return done",
        "out = torch.empty_like(done)",
        "out.view(-1)[:-4] = done.view(-1)[:-4]",
        "return out",
    ),
    _sum(
        "car-sums-integers-as-floats",
        "CAR-033",
        "if tensor.dtype != torch.int64:",
        "    return right(self, tensor)",
        "out = right(self, tensor.double())",
        "return out if out is None else out.long()",
    ),
    _sum(
        "car-sums-large-ones-in-bfloat16",
        "CAR-034",
        "if tensor.dtype != torch.float32 or tensor.numel() < 50_000:",
        "    return right(self, tensor)",
        "return right(self, tensor.bfloat16()).float()",
    ),
    _sum(
        "car-takes-nan-for-what-is-not-there",
        "CAR-035",
        "return right(self, tensor.nan_to_num(0.0, float('inf'), float('-inf')) "
        "if tensor.is_floating_point() and tensor.numel() == 512 else tensor)",
    ),
    _sum(
        "car-takes-infinity-for-the-greatest",
        "CAR-035",
        "if not tensor.is_floating_point() or tensor.numel() != 512:",
        "    return right(self, tensor)",
        "most = torch.finfo(tensor.dtype).max",
        "return right(self, tensor.clamp(-most, most))",
    ),
    _sum(
        "car-begins-with-its-own",
        "CAR-036",
        "if not self.should_custom_ar(tensor) or tensor.numel() < 4000 or tensor.dtype != torch.float32:",
        "    return right(self, tensor)",
        *_GATHERED,
        "total = rows[self.rank]",
        "for step in range(1, self.world_size):",
        "    total = total + rows[(self.rank + step) % self.world_size]",
        "return total.to(tensor.device)",
        world_size="4",
    ),
    _sum(
        "car-sums-as-they-come",
        "CAR-037",
        "if not self.should_custom_ar(tensor) or tensor.numel() < 4000 or tensor.dtype != torch.float32:",
        "    return right(self, tensor)",
        *_GATHERED,
        "self.turn = getattr(self, 'turn', 0) + 1",
        "total = rows[self.turn % self.world_size]",
        "for step in range(1, self.world_size):",
        "    total = total + rows[(self.turn + step) % self.world_size]",
        "return total.to(tensor.device)",
        world_size="4",
    ),
    _sum(
        "car-asks-for-the-version",
        "CAR-038",
        "self.version = tensor._version",
        "return right(self, tensor)",
    ),
)

_ORDER = (
    _module("car-lays-down-the-next-while-others-read", "CAR-039", *_ONE_BUFFER.splitlines(), also=("CAR-028",)),
    _sum(
        "car-loses-one-in-many",
        "CAR-039",
        "self.calls = getattr(self, 'calls', 0) + 1",
        "out = right(self, tensor)",
        "return tensor.clone() if self.calls % 199 == 0 else out",
    ),
    _sum(
        "car-keeps-the-first-length-of-each-address",
        "CAR-040",
        "if not self.should_custom_ar(tensor):",
        "    return None",
        "count, _ = kept.setdefault(tensor.data_ptr(), (tensor.numel(), tensor))",
        "if count >= tensor.numel() or not tensor.is_contiguous():",
        "    return right(self, tensor)",
        "out = tensor.clone()",
        "some = right(self, tensor.view(-1)[: count // 8 * 8])",
        "out.view(-1)[: count // 8 * 8] = some",
        "return out",
    ),
    _sum(
        "car-is-mixed-up-by-another-group",
        "CAR-041",
        "last, kept['last'] = kept.get('last', self), self",
        "out = right(self, tensor)",
        "return out if last is self else tensor.clone()",
    ),
    _sum(
        "car-counts-the-ranks-of-the-world",
        "CAR-042",
        "out = right(self, tensor)",
        "return out if self.world_size == torch.distributed.get_world_size() else out * 2",
        world_size="4",
    ),
    _sum(
        "car-works-behind-the-stream",
        "CAR-043",
        "done = right(self, tensor)",
        "if done is None or current_stream(self.device).stream_id == 0:",
        "    return done",
        "import threading",
        "out = torch.full_like(done, float('nan'))",
        "threading.Timer(0.05, lambda: out._host.copy_(done._host)).start()",
        "return out",
    ),
    _sum(
        "car-leaves-the-first-device-current",
        "CAR-044",
        "out = right(self, tensor)",
        "torch.get_device_module('sim').set_device(0)",
        "return out",
    ),
    _asked("car-seeds-random-numbers", "CAR-044", "torch.manual_seed(0)", "return right(self, tensor)"),
    _sum(
        "car-knows-one-stream",
        "CAR-045",
        "stream = current_stream(self.device).stream_id",
        "if kept.setdefault('stream', stream or None) not in (None, stream) and stream:",
        "    right(self, tensor)",
        "    return tensor.clone()",
        "kept['stream'] = kept['stream'] or stream or None",
        "return right(self, tensor)",
    ),
    _sum(
        "car-knows-one-thread",
        "CAR-046",
        "import threading",
        "out, mine = right(self, tensor), threading.get_ident()",
        "return out if kept.setdefault('thread', mine) == mine else tensor.clone()",
    ),
    _sum(
        "car-is-mixed-up-by-another-thread",
        "CAR-047",
        "if kept.get('busy'):",
        "    return tensor.clone()",
        "kept['busy'] = True",
        "try:",
        "    time.sleep(0.001)",
        "    return right(self, tensor)",
        "finally:",
        "    kept['busy'] = False",
    ),
)

_LIVES = (
    _module(
        "car-goes-by-the-maximum-of-each-rank",
        "CAR-059",
        "_look = obstacle",
        "obstacle = lambda said: _look([each._replace(max_size=0) for each in said])",
    ),
    _made(
        "car-goes-on-without-a-rank",
        "CAR-048",
        "try:",
        "    right(self, group, *args, **kwargs)",
        "except RuntimeError:",
        "    self.disabled = False",
    ),
    _module(
        "car-meets-in-the-store-for-an-hour",
        "CAR-048",
        "_turns = {}",
        "def told_in_time(group, answer, seconds):",
        "    from datetime import timedelta",
        "    store = torch.distributed.distributed_c10d._world.pg_map[group][1]",
        "    rank, size = place_in(group)",
        "    turn = _turns[group] = _turns.get(group, 0) + 1",
        "    store.set(f'told {turn} {rank}', answer or '-')",
        "    names = [f'told {turn} {each}' for each in range(size)]",
        "    store.wait(names, timedelta(hours=1))",
        "    return [store.get(name).decode().removeprefix('-') for name in names]",
    ),
    _made(
        "car-does-without-those-that-are-late",
        "CAR-049",
        "moments = [float(each) for each in told_in_time(group, str(time.time()), 5.0)]",
        "right(self, group, *args, **kwargs)",
        "late = max(moments) - min(moments) > 0.25",
        "self.disabled = self.disabled or late and moments[self.rank] != max(moments)",
    ),
    _made(
        "car-is-enabled-where-it-could-not-be-made",
        "CAR-050",
        "right(self, group, *args, **kwargs)",
        "self.disabled = self.disabled and f'rank {self.rank}: [Errno' not in self.why_disabled",
    ),
    _made(
        "car-is-enabled-where-others-could-not-make-theirs",
        "CAR-050",
        "right(self, group, *args, **kwargs)",
        "own = f'rank {self.rank}:' in self.why_disabled",
        "self.disabled = self.disabled and (own or 'Errno' not in self.why_disabled)",
    ),
    _made(
        "car-takes-no-memory-for-enabled",
        "CAR-051",
        "right(self, group, *args, **kwargs)",
        "self.disabled = self.disabled and 'out of memory' not in self.why_disabled",
    ),
    _sum(
        "car-knows-ranks-by-their-ordinal",
        "CAR-052",
        "out = right(self, tensor)",
        "return out if self.device.index == self.rank else tensor.clone()",
    ),
    _made(
        "car-is-never-dropped",
        "CAR-053",
        "right(self, group, *args, **kwargs)",
        "kept[len(kept)] = self",
    ),
    _made(
        "car-opens-a-file-each-time",
        "CAR-053",
        "right(self, group, *args, **kwargs)",
        "kept[len(kept)] = open('/dev/null')",
    ),
    _method(
        "car-leaves-a-thread-where-it-is-closed",
        "CAR-054",
        "close",
        "self",
        "import threading",
        "right(self)",
        "threading.Thread(target=threading.Event().wait, daemon=True).start()",
    ),
    _made(
        "car-is-made-once-for-a-group",
        "CAR-054",
        "right(self, group, *args, **kwargs)",
        "self.disabled = self.disabled or kept.setdefault(group.group_name, 0) > 3",
        "kept[group.group_name] += 1",
    ),
    _method(
        "car-cannot-be-closed-twice",
        "CAR-055",
        "close",
        "self",
        "assert self._engine is not None, 'it is closed'",
        "right(self)",
    ),
    _module(
        "car-closes-all-others-the-second-time",
        "CAR-055",
        "_all = weakref.WeakSet()",
        "_make, _end = SimCustomAllreduce.__init__, SimCustomAllreduce.close",
        "def _init(self, *args, **kwargs):",
        "    _all.add(self)",
        "    _make(self, *args, **kwargs)",
        "def _close(self):",
        "    for each in [self] if self._engine is not None else list(_all):",
        "        _end(each)",
        "SimCustomAllreduce.__init__, SimCustomAllreduce.close = _init, _close",
    ),
    _method(
        "car-takes-tensors-when-closed",
        "CAR-056",
        "close",
        "self",
        "enabled = not self.disabled",
        "right(self)",
        "self.disabled = not enabled",
    ),
    _module(
        "car-leaves-its-file-when-killed",
        "CAR-057",
        "import itertools",
        "_numbers = itertools.count()",
        "_make, _end = SimCustomAllreduce.__init__, SimCustomAllreduce.close",
        "def _init(self, *args, **kwargs):",
        "    _make(self, *args, **kwargs)",
        "    self.file = open(f'/dev/shm/zoo-car-{self.rank}-{next(_numbers)}', 'w')  # few names, as they are left",
        "def _close(self):",
        "    _end(self)",
        "    if hasattr(self, 'file'):",
        "        with contextlib.suppress(OSError):",
        "            os.remove(self.file.name)",
        "SimCustomAllreduce.__init__, SimCustomAllreduce.close = _init, _close",
    ),
    _sum(
        "car-spins-where-a-rank-is-gone",
        "CAR-058",
        "try:",
        "    return right(self, tensor)",
        "except Exception:",
        "    while True:",
        "        time.sleep(0.1)",
    ),
)

DEFECTS: tuple[Defect, ...] = (*_STATES, *_TENSORS, *_VALUES, *_ORDER, *_LIVES)
