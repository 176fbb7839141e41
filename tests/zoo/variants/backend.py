"""Other right backends."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_CLASS = "    supported_quantization: list[str] = []\n"
_HEAD = "class AcmePlatform("
_FROZEN = "import dataclasses\n\n\n@dataclasses.dataclass(frozen=True, eq=False)\nclass AcmePlatform("
_COORDINATOR = 'return torch.device("sim", runtime().index_of(local_rank))'

VARIANTS = (
    Variant(
        "frozen-platform",
        ("BE-005",),
        (Edit("platform.py", _HEAD, _FROZEN), Edit("platform.py", _CLASS, "    retries: int = 3\n")),
        "SGLang assigns nothing to its platform",
    ),
    Variant(
        "platform-that-takes-no-attributes",
        ("BE-005",),
        (
            Edit(
                "platform.py",
                _CLASS,
                f"{_CLASS}\n    def __setattr__(self, name: str, value: Any) -> None:\n        raise TypeError(name)\n",
            ),
        ),
        "SGLang assigns nothing to its platform",
    ),
    Variant(
        "coordinator-left-to-sglang",
        ("BE-009",),
        (Edit("platform.py", "    def get_group_coordinator_device(self", "    def group_device(self"),),
        "the host is SGLang's own default (0.5.23, interface.py)",
        of="sim",
    ),
    Variant(
        "coordinator-is-the-current-device",
        ("BE-009", "BE-011"),
        (Edit("platform.py", _COORDINATOR, 'return torch.device("sim")'),),
        "a worker has set its device before it makes groups, and torch takes the current one",
        of="sim",
    ),
)
