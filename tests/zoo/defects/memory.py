"""Wrong answers about memory."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_ACME = "device.py"
_SIM = "device_mixin.py"
_USED = "float(runtime().ledgers[runtime().index_of(device)].reserved)"
_TOTAL = "return runtime().ledgers[runtime().index_of(device_id)].total\n"


def _acme(name: str, requirement: str, old: str, new: str, also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, requirement, (Edit(_ACME, old, new),), also=also)


def _sim(name: str, requirement: str, old: str, new: str, also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, requirement, (Edit(_SIM, old, new),), of="sim", also=also)


DEFECTS = (
    _acme("total-memory-in-gigabytes", "MEM-001", "TOTAL = 16 << 30", "TOTAL = 16"),
    _acme("total-memory-in-kibibytes", "MEM-001", "TOTAL = 16 << 30", "TOTAL = 16 << 20"),
    _acme(
        "total-memory-is-none", "MEM-001", "-> int:\n        return TOTAL", "-> int:\n        return None", ("MEM-009",)
    ),
    _acme("total-memory-is-a-text", "MEM-001", "-> int:\n        return TOTAL", '-> int:\n        return "16 GiB"'),
    _acme("total-memory-is-true", "MEM-001", "-> int:\n        return TOTAL", "-> int:\n        return True"),
    _sim(
        "total-memory-in-bits",
        "MEM-002",
        _TOTAL,
        "return 8 * runtime().ledgers[runtime().index_of(device_id)].total\n",
        ("MEM-009",),
    ),
    _sim(
        "total-memory-is-twice-what-is-there",
        "MEM-002",
        _TOTAL,
        "return 2 * runtime().ledgers[runtime().index_of(device_id)].total\n",
        ("MEM-009",),
    ),
    _sim(
        "total-memory-in-words",
        "MEM-014",
        _TOTAL,
        "return runtime().ledgers[runtime().index_of(device_id)].total // 8\n",
        ("MEM-009",),
    ),
    _acme(
        "total-memory-is-what-is-free",
        "MEM-003",
        "-> int:\n        return TOTAL",
        "-> int:\n        return TOTAL - _used()",
        ("MEM-009",),
    ),
    _acme(
        "total-memory-wants-an-index",
        "MEM-003",
        "def get_device_total_memory(self, device_id: int = 0) -> int:",
        "def get_device_total_memory(self, device_id: int) -> int:",
        also=("ID-011",),
    ),
    _acme("usage-is-none", "MEM-004", "return float(_used())", "return None  # type: ignore[return-value]"),
    _acme("usage-is-not-a-number", "MEM-004", "return float(_used())", 'return float("nan")'),
    _acme("usage-is-above-the-total", "MEM-004", "return float(_used())", "return float(2 * TOTAL)"),
    _acme("usage-is-always-zero", "MEM-005", "return float(_used())", "return 0.0"),
    _acme("usage-in-mebibytes", "MEM-005", "return float(_used())", "return _used() / (1 << 20)"),
    _sim("usage-is-a-constant", "MEM-005", _USED, "float(1 << 30)"),
    _sim(
        "usage-is-what-is-cached",
        "MEM-005",
        _USED,
        "float((ledger := runtime().ledgers[runtime().index_of(device)]).reserved - ledger.allocated)",
    ),
    _sim(
        "usage-is-of-the-first-device",
        "MEM-006",
        "runtime().ledgers[runtime().index_of(device)].reserved",
        "runtime().ledgers[0 if device is None else runtime().index_of(device)].reserved",
    ),
    _sim("usage-is-of-all-devices", "MEM-006", _USED, "float(sum(ledger.reserved for ledger in runtime().ledgers))"),
    _sim(
        "usage-ignores-the-named-device",
        "MEM-007",
        "runtime().index_of(device)].reserved",
        "runtime().current_device()].reserved",
    ),
    _sim("usage-empties-the-cache", "MEM-013", f"return {_USED}", f"self.empty_cache()\n        return {_USED}"),
    _sim(
        "usage-resets-the-peak",
        "MEM-013",
        f"return {_USED}",
        "ledger = runtime().ledgers[runtime().index_of(device)]\n"
        "        peak = float(ledger.peak)\n        ledger.reset_peak()\n        return peak",
    ),
    _sim(
        "total-moves-the-current-device",
        "MEM-008",
        _TOTAL,
        f"self.set_device(torch.device('sim', int(device_id == 0)))\n        {_TOTAL}",
    ),
    _sim(
        "usage-is-asked-on-the-first-device",
        "MEM-008",
        f"return {_USED}",
        f"used = {_USED}\n        runtime().thread.device = 0\n        return used",
    ),
    _sim("usage-is-counted-twice", "MEM-015", _USED, f"2 * {_USED}"),
    _sim("usage-is-the-peak", "MEM-016", _USED, _USED.replace("reserved", "peak")),
    _acme(
        "available-memory-is-total-and-free",
        "MEM-009",
        "return TOTAL - _used(), TOTAL",
        "return TOTAL, TOTAL - _used()",
    ),
    _sim(
        "available-memory-stays-at-its-least",
        "MEM-010",
        "return ledger.total - ledger.reserved, ledger.total",
        "return ledger.total - ledger.peak, ledger.total",
    ),
    _acme(
        "pinning-takes-no-device",
        "MEM-011",
        "def is_pin_memory_available(self, device: object = None) -> bool:",
        "def is_pin_memory_available(self) -> bool:",
        also=("ID-011",),
    ),
    _acme(
        "pinning-is-declared-without-it", "MEM-012", "-> bool:\n        return False", "-> bool:\n        return True"
    ),
    _acme(
        "pinning-is-declared-where-no-device-is-named",
        "MEM-012",
        "-> bool:\n        return False",
        "-> bool:\n        return device is None",
    ),
)
