"""Wrong PyNCCL communicators: SGLang's, hooked wrongly by the simulated accelerator's plugin."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_DEADLINE = 6.0  # of those that leave a rank waiting, too
_REGISTERED = '    HookRegistry.register(f"{COMMUNICATOR}._resolve_stream", resolve_stream, HookType.REPLACE)\n'
_LAST_OF_MAKING = (
    "        communicator.all_reduce(torch.zeros(1, device=communicator.device))  # opens what the first one opens\n"
)
_MODULE = "sglang.srt.distributed.parallel_state."
_GROUP = f"{_MODULE}GroupCoordinator."


def _hook(
    name: str,
    requirement: str,
    method: str,
    given: str,
    *lines: str,
    also: tuple[str, ...] = (),
    world_size: str = "2",
) -> Defect:
    """A hook around a method of the communicator (or whatever a dotted path names), of these lines."""
    target = f'f"{{COMMUNICATOR}}.{method}"' if "." not in method else repr(method)
    body = "".join(f"    {line}\n" for line in lines)
    edits = (
        Edit("hooks.py", _REGISTERED, f"{_REGISTERED}    HookRegistry.register({target}, wrong, HookType.AROUND)\n"),
        Edit("hooks.py", "", f"\n\nkept = {{}}\n\n\ndef wrong(original, {given}):\n    import torch\n\n{body}"),
    )
    return Defect(name, requirement, edits, of="sim", also=also, deadline=_DEADLINE, world_size=world_size)


def _at_registration(name: str, requirement: str, *lines: str) -> Defect:
    """Something else done when the hooks are registered."""
    body = "".join(f"    {line}\n" for line in lines)
    return Defect(name, requirement, (Edit("hooks.py", _REGISTERED, f"{_REGISTERED}{body}"),), of="sim")


def _made(name: str, requirement: str, *lines: str, also: tuple[str, ...] = ()) -> Defect:
    """Something done at the end of a communicator's making."""
    body = "".join(f"    {line}\n" for line in lines)
    edit = Edit("pynccl.py", _LAST_OF_MAKING, f"{_LAST_OF_MAKING}{body}")
    return Defect(name, requirement, (edit,), of="sim", also=also, deadline=_DEADLINE)


def _edited(
    name: str, requirement: str, file: str, old: str, new: str, *, also: tuple[str, ...] = (), world_size: str = "2"
) -> Defect:
    edit = Edit(file, old, new)
    return Defect(name, requirement, (edit,), of="sim", also=also, deadline=_DEADLINE, world_size=world_size)


def _state(name: str, requirement: str, *lines: str, also: tuple[str, ...] = ()) -> Defect:
    """Another change_state, whose scope has this body; ``before`` is what disabled was."""
    body = ("import contextlib", "@contextlib.contextmanager", "def scope():", *(f"    {line}" for line in lines))
    return _hook(name, requirement, "change_state", "self, enable=None", *body, "return scope()", also=also)


_TENSOR = "self, tensor, *args, **kwargs"
_BOTH = "self, output, input, *args, **kwargs"

_STATES = (
    _edited(
        "pynccl-is-declared-and-never-made",
        "NCCL-001",
        "pynccl.py",
        "    if communicator.world_size == 1 or not all(",
        "    if communicator.world_size >= 1 or not all(",
    ),
    Defect(
        "pynccl-is-made-and-not-declared",
        "NCCL-001",
        (
            Edit("releases.py", 'declared["supports_pynccl"] = has_library()', 'declared["supports_pynccl"] = False'),
            Edit(
                "hooks.py",
                _REGISTERED,
                f"{_REGISTERED}    HookRegistry.register({_MODULE + 'init_model_parallel_group'!r}, wrong, "
                "HookType.AROUND)\n",
            ),
            Edit(
                "hooks.py",
                "",
                "\n\ndef wrong(original, *a, **k):\n    return original(*a, **{**k, 'use_pynccl': True})\n",
            ),
        ),
        of="sim",
    ),
    _made(
        "pynccl-of-one-rank-alone",
        "NCCL-002",
        "communicator.available = communicator.rank == 0",
        also=("NCCL-001",),
    ),
    _made("pynccl-is-enabled-at-birth", "NCCL-003", "communicator.disabled = False"),
    _made("pynccl-says-the-first-device", "NCCL-004", 'communicator.device = torch.device("sim", 0)'),
    _made("pynccl-says-the-first-rank", "NCCL-004", "communicator.rank = 0"),
    _hook(
        "pynccl-works-while-disabled",
        "NCCL-005",
        "all_reduce",
        _TENSOR,
        "with self.change_state(enable=True):",
        "    return original(self, tensor, *args, **kwargs)",
    ),
    _hook(
        "pynccl-returns-its-input-while-disabled",
        "NCCL-005",
        "outplace_all_reduce",
        _TENSOR,
        "return tensor if self.disabled else original(self, tensor, *args, **kwargs)",
    ),
    _state(
        "pynccl-is-disabled-where-nothing-is-said",
        "NCCL-006",
        "before, self.disabled = self.disabled, not enable",
        "try:",
        "    yield",
        "finally:",
        "    self.disabled = before",
        also=("NCCL-008",),
    ),
    _hook(
        "pynccl-changes-before-the-scope",
        "NCCL-006",
        "change_state",
        "self, enable=None",
        "scope = original(self, enable)",
        "scope.__enter__()",
        "class Entered:",
        "    __enter__ = lambda self: None",
        "    __exit__ = lambda self, *error: scope.__exit__(*error)",
        "return Entered()",
    ),
    _state(
        "pynccl-stays-as-it-was-when-an-error-came",
        "NCCL-007",
        "before, self.disabled = self.disabled, enable is False",
        "yield",
        "self.disabled = before",
    ),
    _state(
        "pynccl-swallows-the-error-of-its-scope",
        "NCCL-007",
        "before, self.disabled = self.disabled, enable is False",
        "try:",
        "    yield",
        "except Exception:",
        "    pass",
        "finally:",
        "    self.disabled = before",
    ),
    _state(
        "pynccl-is-disabled-after-any-scope",
        "NCCL-008",
        "self.disabled = enable is False",
        "try:",
        "    yield",
        "finally:",
        "    self.disabled = True",
    ),
    _hook(
        "pynccl-skips-one-after-having-been-disabled",
        "NCCL-009",
        "all_reduce",
        _TENSOR,
        "if self.disabled:",
        "    kept['skip'] = True",
        "elif kept.pop('skip', False):",
        "    return None",
        "return original(self, tensor, *args, **kwargs)",
    ),
    _hook(
        "pynccl-of-one-rank",
        "NCCL-010",
        f"{_GROUP}__init__",
        "group, *args, **kwargs",
        "original(group, *args, **kwargs)",
        "import types",
        "if group.world_size == 1:",
        "    group.pynccl_comm = types.SimpleNamespace(available=True, disabled=True, world_size=1)",
    ),
    _hook(
        "pynccl-goes-on-to-what-was-never-made",
        "NCCL-011",
        "all_reduce",
        _TENSOR,
        "if not self.disabled and not self.available:",
        "    return self.nccl.ncclAllReduce()",
        "return original(self, tensor, *args, **kwargs)",
    ),
    _edited(
        "pynccl-meets-over-a-group-of-nccls",
        "NCCL-012",
        "meeting.py",
        "    if dist.get_backend(group) == dist.Backend.NCCL:\n",
        "    if False:\n",
    ),
    _at_registration(
        "pynccl-knows-no-sizes",
        "NCCL-013",
        "from sglang.srt.distributed.device_communicators.pynccl import PyNcclCommunicator",
        "even = PyNcclCommunicator.all_gather",
        "PyNcclCommunicator.all_gather = lambda self, output, input: even(self, output, input)",
    ),
    _at_registration(
        "pynccl-has-no-end-of-a-group",
        "NCCL-013",
        "from sglang.srt.distributed.device_communicators.pynccl import PyNcclCommunicator",
        "del PyNcclCommunicator.group_end",
    ),
)

_COLLECTIVES = (
    _hook(
        "pynccl-takes-bfloat16-for-float16",
        "NCCL-014",
        "all_reduce",
        _TENSOR,
        "half = tensor.view(torch.float16) if tensor.dtype == torch.bfloat16 else tensor",
        "return original(self, half, *args, **kwargs)",
    ),
    _hook(
        "pynccl-counts-too-few",
        "NCCL-014",
        "all_reduce",
        _TENSOR,
        "most = tensor.reshape(-1)[: max(1, tensor.numel() - 1)]",
        "return original(self, most, *args, **kwargs)",
    ),
    _hook(
        "pynccl-sums-twice",
        "NCCL-014",
        "all_reduce",
        _TENSOR,
        "original(self, tensor, *args, **kwargs)",
        "return original(self, tensor, *args, **kwargs)",
    ),
    _hook(
        "pynccl-reduces-in-place-and-returns-that",
        "NCCL-015",
        "outplace_all_reduce",
        "self, tensor, out=None, *args, **kwargs",
        "if self.disabled:",
        "    return None",
        "self.all_reduce(tensor, *args, **kwargs)",
        "return tensor if out is None else out.copy_(tensor)",
    ),
    _hook(
        "pynccl-gathers-the-last-rank-first",
        "NCCL-016",
        "all_gather",
        _BOTH,
        "original(self, output, input, *args, **kwargs)",
        "if not self.disabled and not kwargs:",
        "    output.copy_(torch.cat(output.chunk(self.world_size)[::-1]))",
    ),
    _hook(
        "pynccl-gathers-nothing-where-a-rank-has-none",
        "NCCL-017",
        "all_gather",
        _BOTH,
        "if 0 not in (kwargs.get('sizes') or ()):",
        "    return original(self, output, input, *args, **kwargs)",
    ),
    _hook(
        "pynccl-gathers-the-first-rows-last",
        "NCCL-017",
        "all_gather",
        _BOTH,
        "original(self, output, input, *args, **kwargs)",
        "if kwargs.get('sizes') and not self.disabled:",
        "    output.copy_(output.roll(kwargs['sizes'][0], 0))",
    ),
    _hook(
        "pynccl-scatters-the-next-ranks-part",
        "NCCL-018",
        "reduce_scatter",
        _BOTH,
        "if not kwargs and not self.disabled:",
        "    input = torch.cat([*input.chunk(self.world_size)[1:], input.chunk(self.world_size)[0]])",
        "return original(self, output, input, *args, **kwargs)",
    ),
    _hook(
        "pynccl-reduces-into-its-input",
        "NCCL-018",
        "reduce_scatter",
        _BOTH,
        "original(self, output, input, *args, **kwargs)",
        "if not self.disabled and output.numel():",
        "    input.reshape(-1)[: output.numel()] = output.reshape(-1)",
    ),
    _hook(
        "pynccl-scatters-rows-from-the-first",
        "NCCL-019",
        "reduce_scatter",
        _BOTH,
        "if not kwargs.get('sizes') or self.disabled:",
        "    return original(self, output, input, *args, **kwargs)",
        "whole = input.clone()",
        "self.all_reduce(whole)",
        "output.copy_(whole[: output.shape[0]])",
    ),
    _hook(
        "pynccl-broadcasts-from-the-next-rank",
        "NCCL-020",
        "broadcast",
        "self, tensor, src",
        "return original(self, tensor, (src + 1) % self.world_size)",
    ),
    _hook(
        "pynccl-receives-upside-down",
        "NCCL-021",
        "recv",
        "self, tensor, src",
        "original(self, tensor, src)",
        "if not self.disabled and tensor.dim():",
        "    tensor.copy_(tensor.flip(0))",
    ),
    _hook(
        "pynccl-exchanges-with-the-next",
        "NCCL-022",
        "all_to_all_single",
        "self, output, input",
        "original(self, output, input)",
        "if not self.disabled:",
        "    output.copy_(output.roll(output.numel() // self.world_size))",
    ),
    _hook(
        "pynccl-always-sums",
        "NCCL-023",
        "all_reduce",
        "self, tensor, op=None",
        "return original(self, tensor)",
    ),
    _hook(
        "pynccl-does-one-of-a-group",
        "NCCL-024",
        "all_gather",
        _BOTH,
        "if kept.get('of') and input.dtype != torch.float32:",
        "    return None",
        "kept['of'] = input.dtype == torch.float32 and input.shape[0] == 1",
        "return original(self, output, input, *args, **kwargs)",
    ),
    _hook(
        "pynccl-refuses-what-is-empty",
        "NCCL-025",
        "all_reduce",
        _TENSOR,
        "assert tensor.numel(), 'nothing to reduce'",
        "return original(self, tensor, *args, **kwargs)",
    ),
    _hook(
        "pynccl-looks-at-no-layout",
        "NCCL-026",
        "reduce_scatter",
        _BOTH,
        "def flat(tensor):",
        "    return tensor.as_strided(tensor.shape, torch.empty(tensor.shape).stride())",
        "return original(self, flat(output), flat(input), *args, **kwargs)",
    ),
    _hook(
        "pynccl-leaves-other-devices-as-they-are",
        "NCCL-027",
        "all_reduce",
        _TENSOR,
        "if tensor.device == self.device:",
        "    return original(self, tensor, *args, **kwargs)",
    ),
    _hook(
        "pynccl-takes-int16-for-bytes",
        "NCCL-028",
        "all_reduce",
        _TENSOR,
        "bytes_ = tensor.view(torch.int8) if tensor.dtype == torch.int16 else tensor",
        "return original(self, bytes_, *args, **kwargs)",
    ),
    _hook(
        "pynccl-reduces-the-first-mebibyte",
        "NCCL-029",
        "all_reduce",
        _TENSOR,
        "return original(self, tensor.reshape(-1)[: 1 << 19], *args, **kwargs)",
    ),
    _hook(
        "pynccl-sums-large-ones-in-bfloat16",
        "NCCL-030",
        "all_reduce",
        _TENSOR,
        "if tensor.dtype != torch.float32 or tensor.numel() < 50_000:",
        "    return original(self, tensor, *args, **kwargs)",
        "short = tensor.bfloat16()",
        "original(self, short, *args, **kwargs)",
        "tensor.copy_(short)",
    ),
    _hook(
        "pynccl-rounds-otherwise-on-other-ranks",
        "NCCL-031",
        "all_reduce",
        _TENSOR,
        "original(self, tensor, *args, **kwargs)",
        "if self.rank and tensor.dtype == torch.float32 and tensor.numel() > 250:",
        "    tensor.reshape(-1)[:1] *= 1 + 2**-20",
    ),
    _hook(
        "pynccl-loses-one-in-many",
        "NCCL-032",
        "all_gather",
        _BOTH,
        "kept['calls'] = kept.get('calls', 0) + (not self.disabled)",
        "if kept['calls'] % 5:",
        "    return original(self, output, input, *args, **kwargs)",
    ),
    _hook(
        "pynccl-keeps-the-first-length-of-each-address",
        "NCCL-032",
        "all_reduce",
        _TENSOR,
        "first = kept.setdefault(tensor.data_ptr(), tensor)",
        "return original(self, tensor.reshape(-1)[: first.numel()], *args, **kwargs)",
    ),
    _hook(
        "pynccl-forgets-one-where-two-take-turns",
        "NCCL-033",
        "all_reduce",
        _TENSOR,
        "if self.disabled:",
        "    return None",
        "turns = kept.setdefault('turns', [])",
        "turns.append(id(self))",
        "if len(turns) > 3 and len(set(turns[-2:])) == 2 and turns[-3] == turns[-1]:",
        "    return None",
        "return original(self, tensor, *args, **kwargs)",
    ),
    _hook(
        "pynccl-gives-one-tensor-again-and-again",
        "NCCL-015",
        "outplace_all_reduce",
        "self, tensor, out=None, *args, **kwargs",
        "if self.disabled or out is not None:",
        "    return original(self, tensor, out, *args, **kwargs)",
        "room = kept.setdefault((tensor.shape, tensor.stride(), tensor.dtype), torch.empty_like(tensor))",
        "return original(self, tensor, room, *args, **kwargs)",
    ),
    *(
        _hook(
            f"pynccl-keeps-the-first-sizes-of-each-{word}-shape",
            requirement,
            method,
            _BOTH,
            "if kwargs.get('sizes'):",
            "    kwargs['sizes'] = kept.setdefault((output.shape, input.shape), kwargs['sizes'])",
            "return original(self, output, input, *args, **kwargs)",
            world_size="4",
        )
        for word, method, requirement in (
            ("gathered", "all_gather", "NCCL-017"),
            ("scattered", "reduce_scatter", "NCCL-019"),
        )
    ),
    _hook(
        "pynccl-keeps-the-root-of-each-shape",
        "NCCL-020",
        "broadcast",
        "self, tensor, src",
        "return original(self, tensor, kept.setdefault((tensor.shape, tensor.dtype), src))",
    ),
    _hook(
        "pynccl-enables-all-at-once",
        "NCCL-033",
        "change_state",
        "self, enable=None",
        "import contextlib",
        "import gc",
        "@contextlib.contextmanager",
        "def scope():",
        "    others = [each for each in gc.get_objects() if type(each) is type(self)]",
        "    before = [each.disabled for each in others]",
        "    for each in others:",
        "        each.disabled = not (each.available if enable is None else enable)",
        "    try:",
        "        yield",
        "    finally:",
        "        for each, disabled in zip(others, before):",
        "            each.disabled = disabled",
        "return scope()",
    ),
)

_IN_GROUPS = (
    Defect(
        "pynccl-takes-places-for-ranks-of-the-world",
        "NCCL-034",
        _hook(
            "",
            "",
            "broadcast",
            "self, tensor, src",
            "ranks = torch.distributed.get_process_group_ranks(self.group)",
            "return original(self, tensor, ranks.index(src) if src in ranks else 0)",
        ).edits,
        of="sim",
        deadline=_DEADLINE,
        world_size="4",
    ),
    _hook(
        "group-gathers-no-rows-unevenly",
        "NCCL-035",
        f"{_GROUP}all_gatherv",
        "group, input_, sizes=None, output=None",
        "assert not sizes or all(sizes), 'each rank must have rows'",
        "return original(group, input_, sizes, output)",
    ),
    _hook(
        "group-scatters-evenly",
        "NCCL-036",
        f"{_GROUP}reduce_scatterv",
        "group, input_, output=None, sizes=None",
        "return original(group, input_, output, None)",
    ),
    _hook(
        "group-scatters-the-tensor-from-before-it-was-moved",
        "NCCL-037",
        f"{_GROUP}reduce_scatter_along_dim",
        "group, tensor, dim=-1",
        "moved = tensor.movedim(dim, 0)",
        "part = torch.empty_like(moved[: moved.shape[0] // group.world_size].contiguous())",
        "group.reduce_scatter_tensor(part, tensor.reshape(moved.shape).contiguous())",
        "return part.movedim(0, dim)",
    ),
    _hook(
        "group-captures-without-the-communicator",
        "NCCL-038",
        f"{_GROUP}graph_capture",
        "group, *args, **kwargs",
        "import contextlib, types",
        "return contextlib.nullcontext(types.SimpleNamespace(stream=torch.sim.Stream()))",
    ),
    _edited(
        "stream-forgets-what-was-captured-of-a-library",
        "NCCL-039",
        "streams.py",
        "            if graph is not None and result == 0:\n",
        "            if False:\n",
    ),
    _hook(
        "group-reduces-by-torch-in-a-capture",
        "NCCL-040",
        f"{_GROUP}all_reduce",
        "group, tensor",
        "torch.distributed.all_reduce(tensor, group=group.device_group)",
        "return tensor",
    ),
    _edited(
        "pynccl-works-on-the-default-stream",
        "NCCL-041",
        "pynccl.py",
        "    return _Handle(current_stream(communicator.device).sim_stream)",
        "    return _Handle(0)",
    ),
    _edited(
        "pynccl-keeps-the-stream-that-it-met-first",
        "NCCL-041",
        "pynccl.py",
        "    return _Handle(current_stream(communicator.device).sim_stream)",
        "    communicator.first = getattr(communicator, 'first', current_stream(communicator.device))\n"
        "    return _Handle(communicator.first.sim_stream)",
    ),
    _edited(
        "pynccl-takes-another-threads-stream",
        "NCCL-042",
        "pynccl.py",
        "    return _Handle(current_stream(communicator.device).sim_stream)",
        "    import threading\n\n"
        "    if threading.current_thread() is threading.main_thread():\n"
        "        communicator.main = current_stream(communicator.device)\n"
        "    return _Handle(communicator.main.sim_stream)",
    ),
    _hook(
        "pynccl-is-late-on-other-streams",
        "NCCL-043",
        "all_reduce",
        _TENSOR,
        "import threading",
        "if self.disabled or not self._resolve_stream().cuda_stream or not self.available:",
        "    return original(self, tensor, *args, **kwargs)",
        "late = tensor.clone()",
        "original(self, late, *args, **kwargs)",
        "threading.Timer(0.02, tensor.copy_, (late,)).start()",
    ),
    _made("pynccl-leaves-its-own-stream-behind", "NCCL-044", "torch.sim.set_stream(Stream(communicator.device))"),
)

_LIBRARY = (
    _at_registration(
        "pynccl-has-bfloat16-by-another-code",
        "NCCL-045",
        "from sglang.srt.distributed.device_communicators import pynccl_wrapper",
        "pynccl_wrapper.ncclDataTypeEnum.ncclBfloat16 = 10",
    ),
    _at_registration(
        "pynccl-has-maximum-for-minimum",
        "NCCL-046",
        "from sglang.srt.distributed.device_communicators import pynccl_wrapper",
        "pynccl_wrapper.ncclRedOpTypeEnum.ncclMax, pynccl_wrapper.ncclRedOpTypeEnum.ncclMin = 3, 2",
    ),
    _hook(
        "pynccl-makes-one-id",
        "NCCL-047",
        "sglang.srt.distributed.device_communicators.pynccl_wrapper.NCCLLibrary.ncclGetUniqueId",
        "self",
        "if 'id' not in kept:",
        "    kept['id'] = original(self)",
        "return kept['id']",
    ),
    _edited(
        "pynccl-does-not-look-at-results",
        "NCCL-048",
        "pynccl.py",
        "            if result:\n                detail",
        "            if False:\n                detail",
    ),
    _edited(
        "pynccl-says-only-that-it-failed",
        "NCCL-049",
        "pynccl.py",
        '                raise RuntimeError(f"NCCL error on {whose}: {self.ncclGetErrorString(result)} ({detail})")\n',
        '                raise RuntimeError(f"it failed{detail[:0]}")\n',
    ),
    _hook(
        "pynccl-exchanges-what-can-be-parted",
        "NCCL-050",
        "all_to_all_single",
        "self, output, input",
        "even = min(output.numel(), input.numel()) // self.world_size * self.world_size",
        "return original(self, output.view(-1)[:even], input.view(-1)[:even])",
    ),
    _hook(
        "pynccl-leaves-its-group-open",
        "NCCL-053",
        "all_gather",
        _BOTH,
        "if kwargs.get('sizes') and input.dtype == torch.complex64 and not self.disabled:",
        "    self.nccl.ncclGroupStart()",
        "return original(self, output, input, *args, **kwargs)",
    ),
    _made(
        "pynccl-opens-a-file-for-each",
        "NCCL-051",
        "globals().setdefault('opened', []).append(open('/dev/null'))",
    ),
    Defect(
        "pynccl-goes-on-without-the-others",
        "NCCL-052",
        (
            Edit("pynccl.py", " or not all(told_by_all(group, has_library()))", ""),
            Edit(
                "pynccl.py",
                "            self._funcs = {\n",
                "            super().__init__('host')\n            self._funcs = {\n",
            ),
        ),
        of="sim",
        deadline=_DEADLINE,
    ),
)

DEFECTS = (*_STATES, *_COLLECTIVES, *_IN_GROUPS, *_LIBRARY)
