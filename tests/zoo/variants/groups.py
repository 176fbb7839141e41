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


VARIANTS = (
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
