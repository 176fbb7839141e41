"""Wrong groups of ranks: hooks that lay them out, open or leave them otherwise, and a backend that mixes them up."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent
from typing import Any

from zoo.workshop import Defect, Edit

_STATE = "sglang.srt.distributed.parallel_state."
_REGISTERED = {
    "acme": "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n",
    "sim": "    HookRegistry.register(BACKEND_OF_DEVICE, backend_of_device, HookType.AROUND)\n",
}
_CREATE = "    return SimProcessGroup(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)\n"
_FOUR: Mapping[str, Any] = {"world_size": "4"}

_JOIN = "init_distributed_environment"
_MAKE = "init_model_parallel_group"
_CLASS = "GroupCoordinator.__init__"


def _around(name: str, requirement: str, target: str, body: str, *, of: str = "acme", **more: Any) -> Defect:
    """A plugin with one more hook, around a function of SGLang's groups: of ``original``, ``args`` and ``kwargs``."""
    hook = f"\n\nkept = []\n\n\ndef around(original, *args, **kwargs):\n{indent(body, '    ')}\n"
    register = f'    HookRegistry.register("{_STATE}{target}", around, HookType.AROUND)\n'
    edits = (Edit("hooks.py", _REGISTERED[of], _REGISTERED[of] + register), Edit("hooks.py", "", hook))
    return Defect(name, requirement, edits, of=of, **more)


def _patched(name: str, requirement: str, function: str, body: str, *, of: str = "acme", **more: Any) -> Defect:
    """A plugin whose hooks put a function of its own in the place of torch.distributed's; ``original`` is there."""
    patch = (
        f"\n\ndef patch():\n    import functools\n    import torch.distributed as dist\n\n"
        f"    original = dist.{function}\n    kept = []\n\n    @functools.wraps(original)\n"
        f"    def patched(*args, **kwargs):\n{indent(body, '        ')}\n\n"
        f"    dist.{function} = dist.distributed_c10d.{function} = patched\n"
    )
    edits = (Edit("hooks.py", _REGISTERED[of], f"{_REGISTERED[of]}    patch()\n"), Edit("hooks.py", "", patch))
    return Defect(name, requirement, edits, of=of, **more)


def _backend(name: str, requirement: str, body: str, **more: Any) -> Defect:
    """The simulated backend, with its groups made otherwise: of ``store``, ``rank``, ``size`` and ``timeout``."""
    new = f"{indent(body, '    ')}\n\n\nmade: dict[Any, Any] = {{}}\n"
    return Defect(name, requirement, (Edit("distributed.py", _CREATE, new),), of="sim", **more)


def _regrouped(kind: str, ranks: str) -> str:
    """Makes the groups of one kind of other ranks: ``groups`` are SGLang's, ``world`` all their ranks."""
    return (
        f'groups = args[0] if args else kwargs.pop("group_ranks")\n'
        f'if kwargs.get("group_name") == "{kind}":\n'
        f"    size, world = len(groups[0]), sorted(sum(groups, []))\n    groups = {ranks}\n"
        f"return original(groups, *args[1:], **kwargs)"
    )


_ADJACENT = "[world[start:start + size] for start in range(0, len(world), size)]"
_STRIDED = "[world[start::len(world) // size] for start in range(len(world) // size)]"
_REVERSED = (
    "import torch.distributed as dist\n"
    'groups = args[1] if len(args) > 1 else kwargs.pop("group_ranks")\n'
    "groups = groups[::-1] if dist.get_rank() % 2 else groups\n"
    "return original(args[0], groups, *args[2:], **kwargs)"
)
_HOST_GROUPS_TOO = """\
import torch.distributed as dist

make = dist.new_group
dist.new_group = lambda ranks, **options: make(ranks, **{**options, "backend": kwargs["torch_distributed_backend"]})
try:
    return original(*args, **kwargs)
finally:
    dist.new_group = make"""
_WAITS = """\
from datetime import timedelta as time

group = SimProcessGroup(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)
group._gloo = dist.ProcessGroupGloo(dist.PrefixStore("long", store), rank, size, timeout=time(hours=1))
return group"""
_QUICK = """\
class Quick(SimProcessGroup):
    def barrier(self, *args, **kwargs):
        done = torch.futures.Future()
        done.set_result([])
        return torch._C._distributed_c10d._create_work_from_future(done)

return Quick(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)"""
_ONE_SLOT_FOR_THE_SAME_RANKS = """\
import pickle

if not kwargs.get("async_op"):
    return original(*args, **kwargs)
tensor, group, store = args[0], kwargs["group"], dist.distributed_c10d._get_default_store()
ranks = dist.get_process_group_ranks(group)
store.set(f"{ranks} {dist.get_rank()}", pickle.dumps(tensor))

class Work:
    def wait(self):
        dist.barrier(group=group)
        tensor.copy_(sum(pickle.loads(store.get(f"{ranks} {rank}")) for rank in ranks))

return Work()"""
_ONE_SLOT_A_RANK = """\
import pickle
import time

tensor, group, store = args[0], kwargs.get("group"), dist.distributed_c10d._get_default_store()
if kwargs.get("async_op"):
    return original(*args, **kwargs)
store.set(f"slot {dist.get_rank()}", pickle.dumps(tensor))
dist.barrier(group=group)
time.sleep(0.002 * dist.get_rank())  # the later ones read when the first has written what comes next
tensor.copy_(sum(pickle.loads(store.get(f"slot {rank}")) for rank in dist.get_process_group_ranks(group)))"""
_GROUPS_OF = 'described = getattr(kwargs.get("group"), "group_desc", "")\nif described.endswith(":{}"):\n    {}\n'
_ORIGINAL = "return original(*args, **kwargs)"
_EXPERTS_BACKWARDS = """\
import torch.distributed as dist

groups = args[1] if len(args) > 1 else kwargs.pop("group_ranks")
if kwargs.get("group_name") == "moe_ep" and dist.get_rank() % 2:
    groups = [ranks[::-1] for ranks in groups]
return original(args[0], groups, *args[2:], **kwargs)"""
_STRIDED_BACKWARDS = """\
work = original(*args, **kwargs)
ranks = dist.get_process_group_ranks(kwargs.get("group"))
if len(ranks) == 2 and ranks[1] - ranks[0] == 2:
    args[0].copy_(args[0].view(2, -1).flip(0).reshape(-1))
return work"""

DEFECTS = (
    _around(
        "joining-needs-a-launcher", "PG-001", _JOIN, 'import os\n\nos.environ["MASTER_ADDR"]\noriginal(*args, **kwargs)'
    ),
    _around(
        "joining-never-ends-on-one-rank",
        "PG-001",
        _JOIN,
        'import time\n\noriginal(*args, **kwargs)\ntime.sleep(kwargs["rank"] * 60)',
        deadline=2.0,
    ),
    _around(
        "ranks-counted-from-the-end",
        "PG-002",
        _JOIN,
        'original(*args, **{**kwargs, "rank": kwargs["world_size"] - 1 - kwargs["rank"]})',
    ),
    _around(
        "place-in-the-group-is-the-rank",
        "PG-003",
        _CLASS,
        "original(*args, **kwargs)\nargs[0].rank_in_group = args[0].rank",
    ),
    _around(
        "device-groups-on-gloo",
        "PG-004",
        _CLASS,
        'original(*args, **{**kwargs, "torch_distributed_backend": "gloo"})',
        of="sim",
    ),
    _around("host-groups-on-the-vendors-backend", "PG-005", _CLASS, _HOST_GROUPS_TOO, of="sim"),
    _patched(
        "host-tensors-gathered-backwards",
        "PG-006",
        "all_gather_into_tensor",
        "work = original(*args, **kwargs)\n"
        'if args[0].device.type == "cpu":\n    args[0].copy_(args[0].flip(0))\nreturn work',
        of="sim",
    ),
    _patched(
        "objects-gathered-backwards", "PG-007", "all_gather_object", "original(*args, **kwargs)\nargs[0].reverse()"
    ),
    _around(
        "coordinator-bound-to-the-host",
        "PG-008",
        _CLASS,
        'import torch\n\noriginal(*args, **kwargs)\nargs[0].device = torch.device("cpu")',
        of="sim",
    ),
    _backend(
        "groups-share-the-first-ones-connection",
        "PG-009",
        "gloo = made.get(0) or dist.ProcessGroupGloo(store, rank, size, timeout=timeout)\n"
        "made[0] = gloo\nreturn SimProcessGroup(gloo, rank, size)",
        deadline=3.0,
    ),
    _around(
        "barrier-takes-the-first-device",
        "PG-010",
        "GroupCoordinator.barrier",
        "import torch\n\ntorch.sim.set_device(0)\noriginal(*args, **kwargs)",
        of="sim",
    ),
    _around(
        "local-rank-is-the-rank",
        "PG-011",
        _CLASS,
        'import torch.distributed as dist\n\noriginal(*args, **{**kwargs, "local_rank": dist.get_rank()})',
    ),
    _around(
        "local-rank-is-the-rank-on-a-device",
        "PG-011",
        _JOIN,
        'original(*args, **{**kwargs, "local_rank": kwargs["rank"]})',
        of="sim",
    ),
    _around("groups-named-by-their-kind-alone", "PG-012", "_get_unique_name", "return args[0]"),
    _around(
        "last-rank-has-itself-for-the-next",
        "PG-013",
        _MAKE,
        "made = original(*args, **kwargs)\n"
        "type(made).next_rank = property(lambda self: self.ranks[min(self.rank_in_group + 1, self.world_size - 1)])\n"
        "return made",
    ),
    _around("barrier-does-nothing", "PG-014", "GroupCoordinator.barrier", "return None"),
    _patched(
        "host-barrier-does-nothing", "PG-014", "barrier", _GROUPS_OF.format("cpu", "return None") + _ORIGINAL, of="sim"
    ),
    _patched(
        "torchs-barrier-of-a-device-group-does-nothing",
        "PG-045",
        "barrier",
        _GROUPS_OF.format("device", "return None") + _ORIGINAL,
    ),
    _patched(
        "torchs-barrier-of-a-device-group-waits-for-the-world",
        "PG-045",
        "barrier",
        _GROUPS_OF.format("device", "return original()") + _ORIGINAL,
        deadline=8.0,
    ),
    _backend("barrier-of-the-backend-does-nothing", "PG-045", _QUICK),
    _around(
        "barrier-waits-for-the-world",
        "PG-014",
        "GroupCoordinator.barrier",
        "import torch.distributed as dist\n\ndist.barrier()",
        of="sim",
        deadline=2.0,
    ),
    _around(
        "gathering-in-a-group-of-one-adds-a-dimension",
        "PG-015",
        "GroupCoordinator.all_gather",
        "return args[1][None] if args[0].world_size == 1 else original(*args, **kwargs)",
    ),
    _patched(
        "one-asynchronous-all-reduce-at-a-time",
        "PG-016",
        "all_reduce",
        'if not kwargs.get("async_op"):\n    return original(*args, **kwargs)\n'
        "kept.append(kept[0] if kept else original(*args, **kwargs))\nreturn kept[-1]",
    ),
    _backend(
        "groups-of-the-same-size-share-a-connection",
        "PG-017",
        "key = (rank, size)\n"
        "made[key] = made.get(key) or dist.ProcessGroupGloo(store, rank, size, timeout=timeout)\n"
        "return SimProcessGroup(made[key], rank, size)",
        deadline=3.0,
        **_FOUR,
    ),
    _patched("groups-of-the-same-ranks-share-a-buffer", "PG-016", "all_reduce", _ONE_SLOT_FOR_THE_SAME_RANKS),
    _patched("next-all-reduce-does-not-wait-for-readers", "PG-017", "all_reduce", _ONE_SLOT_A_RANK, **_FOUR),
    _patched(
        "groups-of-ranks-in-their-order-only",
        "PG-018",
        "new_group",
        'if args and args[0] != sorted(args[0]):\n    raise ValueError("ranks out of order")\n'
        "return original(*args, **kwargs)",
    ),
    _backend(
        "group-of-one-gathers-nothing",
        "PG-048",
        "class Alone(SimProcessGroup):\n"
        "    def _allgather_base(self, output, own, *args, **kwargs):\n"
        "        output = output if size > 1 else own.clone()\n"
        "        return super()._allgather_base(output, own, *args, **kwargs)\n\n"
        "    all_gather_single = _allgather_base\n\n"
        "return Alone(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)",
    ),
    _around(
        "options-for-some-groups-only",
        "PG-020",
        "get_torch_distributed_pg_options",
        'if (args or [None])[0] == "pdmux_prefill_tp":\n    raise KeyError(args[0])\n' + _ORIGINAL,
    ),
    _around(
        "destroying-keeps-the-host-group",
        "PG-023",
        "GroupCoordinator.destroy",
        "args[0].cpu_group = None\noriginal(*args, **kwargs)",
    ),
    _around("pipelines-of-adjacent-ranks", "PG-024", _MAKE, _regrouped("pp", _ADJACENT)),
    _around("experts-laid-out-as-pipelines", "PG-024", _MAKE, _regrouped("moe_ep", _STRIDED), of="sim"),
    _around("attention-groups-strided", "PG-024", _MAKE, _regrouped("attention_tp", _STRIDED), release="0.5.11"),
    _around(
        "odd-ranks-make-groups-backwards",
        "PG-025",
        _MAKE,
        "import torch.distributed as dist\n"
        'groups = args[0] if args else kwargs.pop("group_ranks")\n'
        "return original(groups[::-1] if dist.get_rank() % 2 else groups, *args[1:], **kwargs)",
    ),
    _around("odd-ranks-open-groups-backwards", "PG-025", _CLASS, _REVERSED, deadline=3.0, world_size="4"),
    _around(
        "odd-ranks-open-groups-backwards-on-a-device", "PG-025", _CLASS, _REVERSED, of="sim", deadline=3.0, **_FOUR
    ),
    _around("experts-in-another-order-on-odd-ranks", "PG-024", _CLASS, _EXPERTS_BACKWARDS, **_FOUR),
    _patched("strided-groups-gathered-backwards", "PG-026", "all_gather_into_tensor", _STRIDED_BACKWARDS, **_FOUR),
    _patched(
        "strided-groups-gathered-backwards-on-a-device",
        "PG-026",
        "all_gather_into_tensor",
        _STRIDED_BACKWARDS,
        of="sim",
        **_FOUR,
    ),
    _around(
        "experts-rank-is-the-tensor-rank",
        "PG-028",
        "get_moe_expert_parallel_rank",
        "from sglang.srt.distributed import parallel_state\n\nreturn parallel_state.get_tensor_model_parallel_rank()",
    ),
    _around(
        "sizes-are-not-checked",
        "PG-029",
        "initialize_model_parallel",
        "try:\n    return original(*args, **kwargs)\nexcept RuntimeError:\n    return None",
    ),
    _around(
        "world-is-made-anew",
        "PG-031",
        _JOIN,
        "from sglang.srt.distributed import parallel_state\n\nparallel_state._WORLD = None\noriginal(*args, **kwargs)",
    ),
    _around(
        "laid-out-as-soon-as-joined",
        "PG-032",
        "model_parallel_is_initialized",
        "import torch.distributed as dist\n\nreturn dist.is_initialized()",
    ),
    _around(
        "no-group-instead-of-an-error",
        "PG-033",
        "get_tp_group",
        "try:\n    return original(*args, **kwargs)\nexcept (AssertionError, RuntimeError):\n    return None",
    ),
    _around("timeout-is-lost", "PG-034", _JOIN, 'original(*args, **{**kwargs, "timeout": None})'),
    _backend(
        "timeout-does-not-reach-the-backend",
        "PG-034",
        "return SimProcessGroup(dist.ProcessGroupGloo(store, rank, size), rank, size)",
    ),
    _backend("timeout-is-told-and-not-kept", "PG-035", _WAITS, deadline=4.0),
    _around(
        "timeout-is-made-to-fit",
        "PG-037",
        _JOIN,
        'original(*args, **{**kwargs, "timeout": max(1, int(kwargs["timeout"]))})',
        deadline=3.0,
    ),
    _around(
        "rank-from-the-environment",
        "PG-038",
        _JOIN,
        'import os\n\noriginal(*args, **{**kwargs, "rank": int(os.environ.get("RANK", kwargs["rank"]))})',
        deadline=3.0,
    ),
    _around(
        "joining-sets-the-environment",
        "PG-039",
        _JOIN,
        'import os\n\nos.environ["RANK"] = str(kwargs["rank"])\noriginal(*args, **kwargs)',
    ),
    _around("leaving-keeps-the-world", "PG-040", "destroy_distributed_environment", "return None", of="sim"),
    _around(
        "groups-leave-files-open",
        "PG-041",
        _MAKE,
        'kept.append(open("/dev/null"))\nreturn original(*args, **kwargs)',
    ),
    _backend(
        "backend-keeps-its-groups",
        "PG-041",
        "made[len(made)] = SimProcessGroup(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)\n"
        "return made[len(made) - 1]",
    ),
    _around(
        "joining-keeps-a-buffer",
        "PG-041",
        _JOIN,
        'kept.append(b"x" * (2 << 20))\noriginal(*args, **kwargs)',
    ),
    _patched("each-group-leaves-a-file-open", "PG-046", "new_group", 'kept.append(open("/dev/null"))\n' + _ORIGINAL),
    _patched("each-group-keeps-a-buffer", "PG-046", "new_group", 'kept.append(b"x" * (256 << 10))\n' + _ORIGINAL),
    _backend(
        "each-group-leaves-a-thread",
        "PG-046",
        f"import threading\n\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n{_CREATE.strip()}",
    ),
    _backend(
        "each-group-keeps-memory-of-the-device",
        "PG-046",
        f'made[len(made)] = torch.empty(1 << 16, device="sim")\n{_CREATE.strip()}',
    ),
    _patched("each-all-reduce-keeps-its-tensor", "PG-047", "all_reduce", "kept.append(args[0].clone())\n" + _ORIGINAL),
    _patched(
        "each-all-reduce-opens-a-file",
        "PG-047",
        "all_reduce",
        'kept.append(open("/dev/null"))\n' + _ORIGINAL,
        of="sim",
    ),
    _around(
        "first-rank-is-remembered",
        "PG-042",
        _JOIN,
        'kept.append(kwargs["rank"])\noriginal(*args, **{**kwargs, "rank": kept[0]})',
        of="sim",
        deadline=3.0,
    ),
    _around(
        "leaving-asks-for-a-group",
        "PG-043",
        "destroy_model_parallel",
        "from sglang.srt.distributed import parallel_state\n\nparallel_state.get_tp_group()\noriginal(*args, **kwargs)",
    ),
)
