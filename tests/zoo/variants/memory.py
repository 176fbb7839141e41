"""Other right answers about memory."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_ACME = "device.py"
_SIM = "device_mixin.py"
_TOTAL = "-> int:\n        return TOTAL\n\n"
_USED = "return float(runtime().ledgers[runtime().index_of(device)].reserved)"
_ARITHMETIC = "SGLang only computes with it (0.5.23, srt/utils/common.py:565, :993)"
_PER_USAGE = ("MEM-004", "MEM-005", "MEM-006", "MEM-008", "MEM-015", "MEM-016")

VARIANTS: tuple[Variant, ...] = (
    Variant(
        "memory-in-numbers-of-numpy",
        ("MEM-001", "MEM-002", "MEM-003", "MEM-004", "MEM-005", "MEM-008"),
        (
            Edit(_ACME, "import gc\n", "import gc\nimport numpy as np\n"),
            Edit(_ACME, _TOTAL, "-> int:\n        return np.int64(TOTAL)\n\n"),
            Edit(_ACME, "return float(_used())", "return np.float32(_used() + (1 << 20))"),
        ),
        why=_ARITHMETIC,
    ),
    Variant(
        "total-memory-is-a-float",
        ("MEM-001", "MEM-002", "MEM-003", "MEM-004", "MEM-009"),
        (Edit(_ACME, _TOTAL, "-> int:\n        return float(TOTAL)\n\n"),),
        why=_ARITHMETIC,
    ),
    Variant(
        "usage-starts-its-peak-again",
        _PER_USAGE,
        (
            Edit(
                _SIM,
                _USED,
                "from sglang_simulated import device_module\n\n"
                "        device_module.reset_peak_memory_stats(device)\n"
                "        return float(device_module.max_memory_allocated(device))",
            ),
        ),
        why="SGLang's multimodal platforms do so (0.5.23, multimodal_gen/runtime/platforms/npu.py:106)",
        of="sim",
    ),
    Variant(
        "usage-empties-the-cache-first",
        _PER_USAGE,
        (Edit(_SIM, _USED, f"self.empty_cache()\n        {_USED}"),),
        why="it makes later allocations slower, and what SGLang computes is right",
        of="sim",
    ),
    Variant(
        "usage-takes-no-device",
        _PER_USAGE,
        (
            Edit(_SIM, "(self, device: DeviceLike = None) -> float", "(self) -> float"),
            Edit(_SIM, _USED, _USED.replace("index_of(device)", "current_device()")),
        ),
        why="SGLang's one call has no argument (0.5.23, srt/utils/common.py:566)",
        of="sim",
    ),
    Variant(
        "total-memory-counts-what-the-driver-keeps",
        ("MEM-002", "MEM-014"),
        (
            Edit(
                _SIM,
                "return runtime().ledgers[runtime().index_of(device_id)].total\n",
                "return runtime().ledgers[runtime().index_of(device_id)].total * 16 // 15\n",
            ),
        ),
        why="a driver counts what error correction takes, and torch does not",
        of="sim",
    ),
)
