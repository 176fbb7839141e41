"""Platforms that say they are something else, or whose class is put together so that nobody hears them."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_CLASS = "    supported_quantization: list[str] = []\n"
_MIXIN = '    device_type = "cpu"\n'


def _on_platform(text: str) -> Edit:
    """Something more in the platform class."""
    return Edit("platform.py", _CLASS, _CLASS + text)


def _on_mixin(text: str) -> Edit:
    """Something more in the device mixin."""
    return Edit("device.py", _MIXIN, _MIXIN + text)


DEFECTS = (
    Defect(
        "constructor-wants-a-configuration",
        "ID-001",
        (_on_platform("\n    def __init__(self, config: Any) -> None:\n        self.config = config\n"),),
    ),
    Defect(
        "repr-reads-what-is-not-there",
        "ID-001",
        (_on_platform("\n    def __repr__(self) -> str:\n        return self.serial_number\n"),),
    ),
    Defect("enum-of-cuda", "ID-002", (Edit("device.py", "_enum = PlatformEnum.OOT", "_enum = PlatformEnum.CUDA"),)),
    Defect("enum-left-unspecified", "ID-002", (Edit("device.py", "_enum = PlatformEnum.OOT", "vendor = 'Acme'"),)),
    Defect("is-cuda-answers-yes", "ID-004", (_on_platform("\n    def is_cuda(self) -> bool:\n        return True\n"),)),
    Defect(
        "is-out-of-tree-answers-no",
        "ID-004",
        (_on_platform("\n    def is_out_of_tree(self) -> bool:\n        return False\n"),),
    ),
    Defect(
        "is-cuda-alike-answers-yes",
        "ID-005",
        (_on_platform("\n    def is_cuda_alike(self) -> bool:\n        return True\n"),),
    ),
    Defect("device-name-is-empty", "ID-006", (Edit("device.py", 'device_name = "acme"', 'device_name = ""'),)),
    Defect(
        "device-type-is-none",
        "ID-006",
        (Edit("device.py", 'device_type = "cpu"', "device_type = None"),),
    ),
    Defect(
        "device-name-on-the-instance-only",
        "ID-007",
        (
            Edit(
                "device.py",
                '    device_name = "acme"\n',
                '\n    def __init__(self) -> None:\n        self.device_name = "acme"\n\n',
            ),
        ),
    ),
    Defect("device-name-left-unknown", "ID-008", (Edit("device.py", '    device_name = "acme"\n', ""),)),
    Defect(
        "device-type-is-misspelt",
        "ID-009",
        (Edit("device.py", 'device_type = "cpu"', 'device_type = "cpuu"'),),
        also=("INIT-007", "BE-002"),
    ),
    Defect(
        "device-type-has-an-index",
        "ID-009",
        (Edit("device.py", 'device_type = "cpu"', 'device_type = "cpu:0"'),),
        also=("DEV-003", "DEV-009", "INIT-008", "BE-002"),
    ),
    Defect(
        "mixin-does-not-derive-from-device-mixin",
        "ID-010",
        (Edit("device.py", "class AcmeDeviceMixin(DeviceMixin):", "class AcmeDeviceMixin:"),),
    ),
    Defect(
        "platform-method-on-the-mixin-is-shadowed",
        "ID-010",
        (_on_mixin('\n    def get_dispatch_key_name(self) -> str:\n        return "acme"\n'),),
    ),
    Defect(
        "override-without-its-parameter",
        "ID-011",
        (_on_platform("\n    def post_load_model(self) -> None:\n        return None\n"),),
        also=("INIT-009",),
    ),
    Defect(
        "override-renames-a-parameter-passed-by-name",
        "ID-011",
        (_on_platform("\n    def get_speculative_worker_cls(self, name: str) -> None:\n        return None\n"),),
        also=("FAC-012",),
    ),
    Defect(
        "method-is-a-coroutine",
        "ID-012",
        (Edit("device.py", "    def empty_cache(self)", "    async def empty_cache(self)"),),
    ),
    Defect(
        "method-is-a-property",
        "ID-012",
        (_on_platform('\n    @property\n    def get_dispatch_key_name(self) -> str:\n        return "acme"\n'),),
        also=("FAC-015",),
    ),
    Defect(
        "graphs-declared-by-the-old-flag-alone",
        "ID-013",
        (_on_platform("\n    def support_cuda_graph(self) -> bool:\n        return True\n"),),
    ),
    Defect(
        "constructor-starts-a-device",
        "ID-014",
        (_on_platform("\n    def __init__(self) -> None:\n        torch.cuda._initialized = True\n"),),
    ),
    Defect(
        "usage-without-its-device",
        "ID-015",
        (
            Edit(
                "device.py",
                "def get_current_memory_usage(self, device: torch.device | None = None)",
                "def get_current_memory_usage(self)",
            ),
        ),
    ),
    Defect(
        "backend-started-by-a-misspelt-method",
        "ID-016",
        (Edit("platform.py", "def init_backend(self)", "def initialize_backend(self)"),),
    ),
    Defect(
        "quantization-misspelt",
        "ID-016",
        (_on_platform("\n    def get_quantisation_config(self, name: str) -> None:\n        return None\n"),),
    ),
    Defect(
        "method-of-another-engines-interface",
        "ID-016",
        (_on_platform("\n    def is_async_output_supported(self, eager: bool) -> bool:\n        return True\n"),),
    ),
)
