"""Wrong torch.distributed backends, and hooks that answer for other devices."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_GLOO = '    def get_torch_distributed_backend_str(self) -> str:\n        return "gloo"\n'
_HOOK = 'return "gloo" if device == "acme" else original(device)'
_COORDINATOR = 'return torch.device("sim", runtime().index_of(local_rank))'
_MADE = "    return SimProcessGroup("
_MEMBER = "    def get_torch_distributed_backend_str(self) -> str:\n"


def _acme(name: str, requirement: str, answer: str, also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, requirement, (Edit("device.py", _GLOO, f"{_MEMBER}        {answer}\n"),), also=also)


def _sim(name: str, requirement: str, collective: str, body: str) -> Defect:
    """The simulated backend with one collective that does something else."""
    right = f"return _on_host(self._gloo.{collective}, args, kwargs)"
    return Defect(name, requirement, (Edit("distributed.py", right, body),), of="sim")


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
        "BE-011",
        (
            Edit(
                "platform.py",
                _COORDINATOR,
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
                _COORDINATOR,
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
    Defect(
        "communicator-class-is-only-named",
        "NCCL-054",
        (
            Edit(
                "device.py",
                _GLOO,
                f"{_GLOO}\n    def get_communicator_class(self) -> type:\n        return type('Own', (), {{}})\n",
            ),
        ),
    ),
    Defect(
        "coordinator-is-a-text", "BE-009", (Edit("platform.py", _COORDINATOR, 'return f"sim:{local_rank}"'),), of="sim"
    ),
    Defect(
        "one-group-in-a-process",
        "BE-012",
        (
            Edit(
                "distributed.py",
                _MADE,
                "    if getattr(_create, 'made', False):\n"
                '        raise RuntimeError("simccl has its group already")\n'
                f"    _create.made = True\n{_MADE}",
            ),
        ),
        of="sim",
    ),
    _sim("no-gathering-into-a-tensor", "BE-012", "_allgather_base", "raise NotImplementedError"),
    _sim("every-reduction-is-a-sum", "BE-012", "allreduce", "return _on_host(self._gloo.allreduce, args[:1], {})"),
    _sim("nothing-is-sent", "BE-013", "send", "raise NotImplementedError"),
    _sim("reduce-scatter-gives-all-to-all", "BE-013", "_reduce_scatter_base", "return self._gloo.barrier()"),
)
