"""Wrong torch.distributed backends, and hooks that answer for other devices."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_GLOO = '    def get_torch_distributed_backend_str(self) -> str:\n        return "gloo"\n'
_HOOK = 'return "gloo" if device == "acme" else original(device)'
_MEMBER = "    def get_torch_distributed_backend_str(self) -> str:\n"


def _acme(name: str, requirement: str, answer: str, also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, requirement, (Edit("device.py", _GLOO, f"{_MEMBER}        {answer}\n"),), also=also)


DEFECTS = (
    _acme("backend-is-not-implemented", "BE-001", "raise NotImplementedError"),
    _acme("backend-raises", "BE-001", 'raise ImportError("no module named acme_ccl")'),
    _acme("backend-is-none", "BE-001", "return None"),
    _acme("backend-changes-with-the-start", "BE-001", 'return "cpu:gloo" if torch.is_flush_denormal else "gloo"'),
    _acme("backend-is-of-another-device", "BE-002", 'return "nccl"', ("BE-003", "BE-004")),
    _acme("backend-cannot-be-read", "BE-002", 'return "cpu:gloo,acme"', ("BE-003", "BE-004")),
    Defect(
        "backend-is-never-registered",
        "BE-003",
        (
            Edit("platform.py", "        distributed.register()\n", ""),
            Edit("device_mixin.py", "        distributed.register()\n", ""),
        ),
        of="sim",
    ),
    Defect(
        "backend-leaves-the-device-out",
        "BE-002",
        (Edit("distributed.py", 'f"cpu:gloo,sim:{BACKEND}"', '"cpu:gloo"'),),
        of="sim",
    ),
    Defect(
        "hook-answers-in-the-platforms-place",
        "BE-004",
        (Edit("hooks.py", _HOOK, 'return "acmeccl" if device in ("acme", "cpu") else original(device)'),),
    ),
    Defect("hook-answers-for-other-devices", "BE-005", (Edit("hooks.py", _HOOK, 'return "gloo"'),)),
    Defect(
        "hook-answers-for-other-devices-in-0.5.11",
        "BE-005",
        (Edit("hooks.py", _HOOK, 'return "gloo"'),),
        release="0.5.11",
    ),
    Defect(
        "no-hook-brings-the-backend",
        "BE-006",
        (Edit("device.py", _GLOO, f'{_MEMBER}        return "acmeccl"\n'),),
        release="0.5.11",
    ),
    Defect(
        "group-of-one-does-not-start",
        "BE-007",
        (
            Edit(
                "distributed.py",
                "    return SimProcessGroup(",
                '    raise OSError("no link")\n    return SimProcessGroup(',
            ),
        ),
        of="sim",
    ),
    Defect(
        "collectives-of-two-ranks-do-nothing",
        "BE-008",
        (Edit("distributed.py", "return _on_host(self._gloo.allreduce, args, kwargs)", "return self._gloo.barrier()"),),
        of="sim",
    ),
    Defect(
        "coordinator-is-bound-to-the-host",
        "BE-009",
        (
            Edit(
                "platform.py",
                'return torch.device("sim", runtime().index_of(local_rank))',
                'return torch.device("cpu")',
            ),
        ),
        of="sim",
    ),
    Defect(
        "coordinator-is-always-the-first-device",
        "BE-009",
        (
            Edit(
                "platform.py",
                'return torch.device("sim", runtime().index_of(local_rank))',
                'return torch.device("sim", 0)',
            ),
        ),
        of="sim",
    ),
    Defect(
        "communicator-is-an-object",
        "BE-010",
        (
            Edit(
                "device.py",
                _GLOO,
                f"{_GLOO}\n    def get_communicator_class(self) -> object:\n        return object()\n",
            ),
        ),
    ),
)
