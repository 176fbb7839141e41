"""Other right ways to open the groups of ranks."""

from __future__ import annotations

from textwrap import indent

from zoo.workshop import Edit, Variant

_STATE = "sglang.srt.distributed.parallel_state."
_REGISTERED = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"
_COORDINATOR = 'return torch.device("sim", runtime().index_of(local_rank))'
_LAYOUTS = ("PG-003", "PG-009", "PG-012", "PG-013", "PG-017", "PG-023", "PG-024", "PG-025", "PG-026", "PG-028")


def _hooked(target: str, kind: str, hook: str) -> tuple[Edit, ...]:
    register = f'    HookRegistry.register("{_STATE}{target}", other, HookType.{kind})\n'
    return Edit("hooks.py", _REGISTERED, _REGISTERED + register), Edit("hooks.py", "", f"\n\n{hook}")


def _around(target: str, body: str) -> tuple[Edit, ...]:
    return _hooked(target, "AROUND", f"def other(original, *args, **kwargs):\n{indent(body, '    ')}\n")


def _backend(body: str) -> tuple[Edit, ...]:
    """The simulated backend, with its groups made otherwise: of ``store``, ``rank``, ``size`` and ``timeout``."""
    return (Edit("distributed.py", _CREATE, f"{indent(body, '    ')}\n"),)


_CREATE = "    return SimProcessGroup(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)\n"
_WARMS_UP = """\
import torch
import torch.distributed as dist
from sglang.srt.distributed import parallel_state

original(*args, **kwargs)
group = parallel_state.get_tp_group()
ones = torch.ones(4, device=group.device)
dist.all_reduce(ones, group=group.device_group)
assert ones.tolist() == [group.world_size] * 4, "no connection"
dist.barrier(group=group.cpu_group)
warm = group.all_reduce(torch.ones(4, device=group.device))
names = [None] * group.world_size
dist.all_gather_object(names, group.unique_name.partition(":")[0], group=group.cpu_group)
assert names == ["tp"] * group.world_size and dist.get_process_group_ranks(group.cpu_group) == group.ranks"""
_CALLS_THE_BACKEND = """\
import torch
from sglang.srt.distributed import parallel_state

original(*args, **kwargs)
group = parallel_state.get_tp_group().device_group
group.allreduce([torch.ones(4)]).wait()"""
_FACTORY = """\
def other(group_ranks, local_rank, backend, *wishes, **options):
    import torch
    import torch.distributed as dist
    from sglang.srt.distributed.parallel_state import GroupCoordinator

    class AcmeCoordinator(GroupCoordinator):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.scratch = torch.ones(1, device=self.device)
            dist.all_reduce(self.scratch, group=self.device_group)

    switched_off = (
        "use_pynccl use_mscclpp use_custom_allreduce use_torch_symm_mem_all_reduce use_hpu_communicator "
        "use_xpu_communicator"
    )
    return AcmeCoordinator(
        group_ranks=group_ranks,
        local_rank=local_rank,
        torch_distributed_backend=backend,
        group_name=options.get("group_name"),
        **dict.fromkeys(switched_off.split(), False),
    )
"""
_OWN_BACKEND = """\
import torch.distributed as dist


class Options:
    pass


def create(of, options):
    assert options is None or isinstance(options, Options), options
    if of.global_ranks_in_group:
        assert options is not None, "a group of ours is made with its options"
    return dist.ProcessGroupGloo(of.store, of.group_rank, of.group_size, timeout=of.timeout)


def offer():
    if not hasattr(dist.Backend, "ACMECCL"):
        dist.Backend.register_backend("acmeccl", create, extended_api=True, devices=["cpu"])


def options_of(original, *args, **kwargs):
    return Options()


"""
_OPTIONS = (
    f'    HookRegistry.register("{_STATE}get_torch_distributed_pg_options", options_of, HookType.AROUND)\n    offer()\n'
)


def _joining_with(backend: str) -> tuple[Edit, ...]:
    """Acme, whose hook on joining chooses a backend of its own, which wants options."""
    hooked = _around("init_distributed_environment", f'kwargs["backend"] = "{backend}"\noriginal(*args, **kwargs)')
    registered = Edit("hooks.py", _REGISTERED, hooked[0].new + _OPTIONS)
    return registered, Edit("hooks.py", "", f"\n\n{_OWN_BACKEND}{hooked[1].new.strip()}\n")


VARIANTS = (
    Variant(
        "groups-are-warmed-up",
        ("PG-024", "PG-025", "PG-026", "PG-027", "PG-028", "PG-042"),
        _around("initialize_model_parallel", _WARMS_UP),
        "a backend connects at its first collective, which may be the vendor's own (0.5.23, srt/managers/scheduler.py)",
    ),
    Variant(
        "groups-are-warmed-up-below-torch",
        ("PG-024", "PG-025", "PG-026", "PG-027"),
        _around("initialize_model_parallel", _CALLS_THE_BACKEND),
        "what a vendor calls of its own backend needs the other ranks, and cannot be seen without them",
    ),
    Variant(
        "group-class-from-a-factory-of-ones-own",
        ("PG-003", "PG-009", "PG-015", "PG-017", "PG-024", "PG-025", "PG-026", "PG-027", "PG-028"),
        _hooked("init_model_parallel_group", "REPLACE", _FACTORY),
        "SGLang's hooks replace a function by another that gives what it gave (0.5.23, srt/plugins/hook_registry.py)",
    ),
    Variant(
        "backend-of-ones-own-with-options",
        ("PG-004", "PG-015", "PG-016", "PG-017", "PG-018", "PG-019", "PG-020", "PG-045", "PG-046"),
        _joining_with("acmeccl"),
        "torch hands a backend that is registered with extended_api whatever options it is given",
    ),
    Variant(
        "backend-chosen-when-joining",
        ("PG-004", "PG-015", "PG-016", "PG-017", "PG-018", "PG-020"),
        _joining_with("acmeccl"),
        "before SGLang asked the platform its backend could only be chosen so (0.5.11, parallel_state.py)",
        release="0.5.11",
    ),
    Variant(
        "joining-starts-an-executor",
        ("PG-039", "PG-041"),
        _around(
            "init_distributed_environment",
            "from concurrent.futures import ThreadPoolExecutor\n\n"
            'original(*args, **kwargs)\nexecutor = globals().setdefault("executor", ThreadPoolExecutor(1))\n'
            "executor.submit(int).result()",
        ),
        "the threads of Python's executors are ended before the process waits for any",
    ),
    Variant(
        "joining-takes-its-time",
        ("PG-035", "PG-036"),
        _around(
            "init_distributed_environment",
            'import time\n\ntime.sleep(1.2 * kwargs["rank"])\noriginal(*args, **kwargs)',
        ),
        "how long a device takes to start is its own affair; a user gives --dist-timeout accordingly",
    ),
    Variant(
        "group-of-one-does-not-gather",
        ("PG-013", "PG-015", "PG-048"),
        _backend(
            "class Alone(SimProcessGroup):\n"
            "    def _allgather_base(self, *args, **kwargs):\n"
            '        if size == 1:\n            raise RuntimeError("there is nobody to gather from")\n'
            "        return super()._allgather_base(*args, **kwargs)\n\n"
            "    all_gather_single = _allgather_base\n\n"
            "return Alone(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)"
        ),
        "SGLang's coordinator does not gather in a group of one (0.5.23, srt/distributed/parallel_state.py:1381)",
        of="sim",
    ),
    Variant(
        "platform-with-a-thread",
        ("PG-001", "PG-035", "PG-036", "PG-044", "BE-012", "BE-013", "INIT-008"),
        (
            Edit(
                "platform.py",
                "class AcmePlatform(",
                "import threading\n\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n\n\n"
                "class AcmePlatform(",
            ),
        ),
        "a vendor's driver may start threads as soon as it is loaded; such a process cannot be forked",
        deadline=30.0,
    ),
    Variant(
        "group-class-of-ones-own",
        (*_LAYOUTS, "PG-014", "PG-041"),
        _hooked(
            "GroupCoordinator",
            "REPLACE",
            "from sglang.srt.distributed.parallel_state import GroupCoordinator\n\n\n"
            "class other(GroupCoordinator):\n    def barrier(self):\n        self.waited = True\n"
            "        super().barrier()\n",
        ),
        "SGLang's hooks replace a class by one derived from it (0.5.23, srt/plugins/hook_registry.py)",
    ),
    Variant(
        "engines-are-switched-off",
        _LAYOUTS,
        _around("init_model_parallel_group", 'return original(*args, **{**kwargs, "use_custom_allreduce": False})'),
        "which engine serves a group is the vendor's affair; its ranks stay SGLang's",
    ),
    Variant(
        "host-groups-wait-less",
        ("PG-005", "PG-006", "PG-034", "PG-035"),
        _around(
            "GroupCoordinator.__init__",
            'from datetime import timedelta\n\noriginal(*args, **{**kwargs, "gloo_timeout": timedelta(minutes=5)})',
        ),
        "the host groups' timeout is an argument of its own (0.5.23, srt/distributed/parallel_state.py:303)",
    ),
    Variant(
        "backend-named-with-its-device",
        ("PG-004", "PG-005", "PG-009", "PG-019", "PG-026", "PG-034"),
        (Edit("device.py", 'return "gloo"', 'return "cpu:gloo"'),),
        "torch reads a backend for each kind of device",
    ),
    Variant(
        "groups-on-the-device-that-is-current",
        ("PG-008", "PG-009", "PG-010", "PG-011"),
        (Edit("platform.py", _COORDINATOR, 'return torch.device("sim")'),),
        "a worker has set its device before it makes groups, and torch takes the current one",
        of="sim",
    ),
    Variant(
        "groups-on-the-host",
        ("PG-008", "PG-009", "PG-010", "PG-011"),
        (Edit("platform.py", "    def get_group_coordinator_device(self", "    def group_device(self"),),
        "the host is SGLang's own default (0.5.23, interface.py)",
        of="sim",
    ),
    Variant(
        "group-beside-sglangs",
        ("PG-023", "PG-031", "PG-040", "PG-041", "PG-042", "PG-043"),
        _around(
            "initialize_model_parallel",
            "import torch.distributed as dist\n\noriginal(*args, **kwargs)\ndist.new_group()",
        ),
        "a vendor may open groups of its own; torch destroys them with the default one",
    ),
)
