"""Other right classes."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_CLASS = "    supported_quantization: list[str] = []\n"
_USAGE = "    def get_current_memory_usage(self, device: torch.device | None = None) -> float:\n"
_NAME = '    device_name = "acme"\n'


def _named(name: str) -> tuple[Edit, ...]:
    return (Edit("device.py", _NAME, f'    device_name = "{name}"\n'),)


def _on_platform(text: str) -> Edit:
    """Something more in the platform class."""
    return Edit("platform.py", _CLASS, _CLASS + text)


VARIANTS = (
    Variant(
        "usage-of-the-current-device-only",
        ("ID-011",),
        (Edit("device.py", _USAGE, "    def get_current_memory_usage(self) -> float:\n"),),
        "the only call in core gives no device (0.5.23, srt/utils/common.py:566)",
    ),
    Variant(
        "device-must-be-given",
        ("ID-011",),
        (
            Edit(
                "device.py",
                "def get_device_uuid(self, device_id: int = 0)",
                "def get_device_uuid(self, device_id: int)",
            ),
        ),
        "every call in core gives the number (0.5.23, srt/entrypoints/engine.py:794)",
    ),
    Variant(
        "speculative-worker-by-name-only",
        ("ID-011",),
        (
            _on_platform(
                "\n    def get_speculative_worker_cls(self, *, algorithm: str) -> None:\n        return None\n"
            ),
        ),
        "core passes the algorithm by name (0.5.23, srt/speculative/spec_info.py:309)",
    ),
    Variant(
        "device-name-of-the-backend-table",
        ("ID-008",),
        _named("hpu"),
        "0.5.23 has a backend for hpu, and no platform of that name (srt/platforms/__init__.py)",
    ),
    Variant(
        "device-name-that-a-later-release-takes",
        ("ID-008",),
        _named("musa"),
        "0.5.11 has no built-in platforms, and does not ask a platform for a device of its name",
        release="0.5.11",
    ),
    Variant(
        "device-name-is-a-property",
        ("ID-006", "ID-007", "ID-008", "ID-012"),
        (
            Edit(
                "device.py",
                _NAME,
                '\n    @property\n    def device_name(self) -> str:\n        return "acme590"\n\n',
            ),
        ),
        "SGLang reads it on the instance (0.5.23, srt/distributed/parallel_state.py:2394)",
    ),
    Variant(
        "members-of-other-kinds",
        ("ID-001", "ID-010", "ID-011", "ID-012", "ID-014", "ID-015", "ID-016"),
        (
            _on_platform(
                "    __slots__ = ()\n\n    @property\n    def capabilities(self) -> Any:\n"
                "        from sglang.srt.platforms.interface import PlatformCapabilities\n\n"
                "        return PlatformCapabilities()\n"
            ),
            Edit("device.py", "import gc\n", "import functools\nimport gc\n"),
            Edit(
                "device.py",
                "    def get_device_total_memory(",
                "    @functools.lru_cache(maxsize=None)\n    def get_device_total_memory(",
            ),
            Edit("device.py", "    def get_device_name(", "    @classmethod\n    def get_device_name("),
            Edit("device.py", "    def get_device_uuid(self, ", "    @staticmethod\n    def get_device_uuid("),
        ),
        "SGLang only calls and reads on the instance: how the class binds its members is its own affair",
    ),
    Variant(
        "dataclass-with-a-metaclass",
        ("ID-001", "ID-002", "ID-007", "ID-010", "ID-011", "ID-012", "ID-015", "ID-016"),
        (
            Edit("platform.py", "from typing import Any\n", "import dataclasses\nfrom typing import Any\n"),
            Edit(
                "platform.py",
                "class AcmePlatform(SRTPlatform, AcmeDeviceMixin):\n",
                "class Registry(type):\n    pass\n\n\n@dataclasses.dataclass(eq=False)\n"
                "class AcmePlatform(SRTPlatform, AcmeDeviceMixin, metaclass=Registry):\n    revision: int = 3\n",
            ),
            Edit("platform.py", "    supported_quantization: list[str] = []\n", ""),
        ),
        "SGLang calls the class without arguments, and asks nothing of how it was made",
    ),
    Variant(
        "helpers-with-names-like-members",
        ("ID-016",),
        (
            _on_platform(
                "\n    def get_full_graph_backend(self) -> Any:\n        return None\n"
                "\n    def get_quantization_config(self, quantization: str) -> Any:\n"
                "        return self.get_full_graph_backend()\n"
                "\n    def get_device_count(self) -> int:\n        return 1\n"
            ),
        ),
        "the vendor's own code calls them, or they resemble nothing that SGLang reads",
    ),
)
