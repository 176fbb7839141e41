"""Other right devices."""

from __future__ import annotations

from zoo.defects.device import VISIBLE
from zoo.workshop import Edit, Variant

_ACME = "device.py"
_SIM = "device_mixin.py"
_CLASS = "class AcmePlatform("
_UUID = 'return f"ACME-0000-{device_id:04d}"'


def _left_out(text: str) -> Edit:
    return Edit(_ACME, text, "")


_OPTIONAL = (
    _left_out("""\
    def set_device(self, device: torch.device) -> None:
        torch.cpu.set_device(device)
"""),
    _left_out("""\
    def get_device_name(self, device_id: int = 0) -> str:
        return "Acme One"
"""),
    _left_out("""\
    def get_device_uuid(self, device_id: int = 0) -> str:
        return f"ACME-0000-{device_id:04d}"
"""),
    _left_out("""\
    def get_device_capability(self, device_id: int = 0) -> None:
        return None
"""),
    _left_out("""\
    def get_torch_profiler_activity_str(self) -> str:
        return "CPU"

    def get_torch_profiler_activity(self) -> torch.profiler.ProfilerActivity:
        return torch.profiler.ProfilerActivity.CPU
"""),
)
_HIDING = """\
    @contextmanager
    def reindex_device_id(self, device_id: int) -> Iterator[int]:
        os.environ["SGLANG_SIM_VISIBLE"] = str(device_id)
        try:
            yield 0
        finally:
            del os.environ["SGLANG_SIM_VISIBLE"]

    def get_device_name("""

VARIANTS: tuple[Variant, ...] = (
    Variant(
        "platform-is-a-dataclass",
        ("DEV-001", "MEM-001", "INIT-001", "BE-001"),
        (
            Edit("platform.py", _CLASS, f"import dataclasses\n\n\n@dataclasses.dataclass\n{_CLASS}"),
            Edit("platform.py", "supported_quantization: list[str] = []", "retries: int = 3"),
        ),
        why="SGLang never hashes its platform, and a dataclass with equality cannot be hashed",
    ),
    Variant(
        "device-offers-only-what-serving-asks-for",
        ("DEV-004", "DEV-008", "DEV-009", "DEV-010", "DEV-011", "DEV-012", "DEV-018", "DEV-019", "DEV-021", "DEV-022"),
        _OPTIONAL,
        why="SGLang reads them only where a profile, the weight cache or weight updates were asked for",
    ),
    Variant(
        "capability-is-of-a-type-of-its-own",
        ("DEV-011",),
        (
            Edit(
                _ACME,
                "def get_device_capability(self, device_id: int = 0) -> None:\n        return None",
                "def get_device_capability(self, device_id: int = 0) -> object:\n"
                "        from types import SimpleNamespace\n\n        return SimpleNamespace(major=5, minor=90)",
            ),
        ),
        why="SGLang reads .major and .minor and nothing else (0.5.23, srt/weight_cache/protocol.py:263)",
    ),
    Variant(
        "stream-takes-no-device-by-name",
        ("DEV-005", "INIT-007"),
        (
            Edit(
                "streams.py",
                "self, device: DeviceLike = None, priority",
                "self, device: DeviceLike = None, /, priority",
            ),
        ),
        why="SGLang makes its streams without naming a device",
        of="sim",
    ),
    Variant(
        "uuid-is-an-object",
        ("DEV-009", "DEV-010"),
        (Edit(_ACME, _UUID, "import uuid\n\n        return uuid.UUID(int=device_id + 1)"),),
        why="SGLang only writes it into texts",
    ),
    Variant(
        "uuid-has-slashes",
        ("DEV-009", "DEV-010"),
        (Edit(_ACME, _UUID, 'return f"MIG-ACME-0000/{device_id}/0"'),),
        why="only the weight cache names files after it",
    ),
    Variant(
        "equal-devices-share-one-total",
        ("DEV-021", "MEM-003"),
        (Edit(_SIM, "ledgers[runtime().index_of(device_id)].total\n", "ledgers[0].total\n"),),
        why="the devices of one machine are alike, and SGLang asks only about those that there are",
        of="sim",
    ),
    Variant(
        "reindex-shows-one-device",
        ("DEV-013", "DEV-014", "DEV-015"),
        (
            *VISIBLE,
            Edit(
                _SIM,
                "import random\n",
                "import os\nimport random\nfrom collections.abc import Iterator\n"
                "from contextlib import contextmanager\n",
            ),
            Edit(_SIM, "    def get_device_name(", _HIDING),
        ),
        why="SGLang's own CUDA platform does so (0.5.23, srt/platforms/cuda.py)",
        of="sim",
    ),
)
