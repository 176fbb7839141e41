"""Wrong answers about devices, and device operations that do not do what they say."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_ACME = "device.py"
_SIM = "device_mixin.py"
_RUN = "        result = func(*host_args, **host_kwargs)\n"
_DRAWS = "    with runtime().random_numbers_of(runs_on) if facts.draws else nullcontext():\n"
_LATER = """\
    if index is None and func is _aten.copy_.default and True in (*args[2:], *kwargs.values()):
        current_stream(runs_on).copies.append((func, host_args, host_kwargs))
        return args[0]
"""
_STREAM = "        self.graph: SimGraph | None = None  # the graph that is capturing this stream"
_WAIT = '        self._refuse_in_capture("synchronize a stream")'
_NAMED = 'return "sim" if device_id is None else f"sim:{runtime().index_of(device_id)}"'
_UUID = "return hardware.device_uuid(runtime().index_of(device_id))"
_EMPTY = "        for ledger in runtime().ledgers:\n            ledger.empty_cache()"
_NAME = "    def get_device_name("
_SEED = "    @classmethod\n    def seed_everything"


# A driver that shows one device, where it is told which.
VISIBLE = (
    Edit("hardware.py", "Hardware(devices, memory)", 'Hardware(1 if "SGLANG_SIM_VISIBLE" in env else devices, memory)'),
    Edit("hardware.py", "device/{index}", "device/{index + int(os.environ.get('SGLANG_SIM_VISIBLE', 0))}"),
)


def _acme(name: str, requirement: str, old: str, new: str, also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, requirement, (Edit(_ACME, old, new),), also=also)


def _sim(name: str, requirement: str, old: str, new: str, also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, requirement, (Edit(_SIM, old, new),), of="sim", also=also)


_REINDEX = """\
    @contextmanager
    def reindex_device_id(self, device_id: int) -> Iterator[int]:
        before = os.environ.get("ACME_VISIBLE_DEVICES")
        os.environ["ACME_VISIBLE_DEVICES"] = str(device_id)
"""
_PUT_BACK = """\
        if before is None:
            del os.environ["ACME_VISIBLE_DEVICES"]
        else:
            os.environ["ACME_VISIBLE_DEVICES"] = before
"""


def _moving(name: str, requirement: str, at: str, to: str = "0") -> Defect:
    """Another device is current afterwards."""
    return _sim(name, requirement, at, f"{at}\n        runtime().thread.device = {to}")


def _giving(name: str, index: str, *edits: Edit, hides: str = "") -> Defect:
    """sim, whose reindex_device_id gives that index."""
    method = (
        "    @contextmanager\n"
        f"    def reindex_device_id(self, device_id: int) -> Iterator[int]:\n{hides}        yield {index}\n\n"
    )
    imports = Edit(
        _SIM,
        "import random\n",
        "import os\nimport random\nfrom collections.abc import Iterator\nfrom contextlib import contextmanager\n",
    )
    return Defect(name, "DEV-013", (imports, Edit(_SIM, _NAME, f"{method}{_NAME}"), *edits), of="sim")


def _reindexing(name: str, requirement: str, body: str) -> Defect:
    imports = Edit(
        _ACME,
        "import gc\n",
        "import gc\nimport os\nfrom collections.abc import Iterator\nfrom contextlib import contextmanager\n",
    )
    method = f"{_REINDEX}{body}\n{_SEED}"
    return Defect(name, requirement, (imports, Edit(_ACME, _SEED, method)))


DEFECTS = (
    _sim(
        "get-device-without-the-index",
        "DEV-001",
        _NAMED,
        'return "sim:0"',
    ),
    _acme("get-device-of-another-type", "DEV-001", 'return "cpu"', 'return f"cuda:{device_id}"'),
    _acme("get-device-as-a-number", "DEV-001", 'return "cpu"', "return device_id"),
    Defect(
        "device-computes-wrong-values",
        "DEV-002",
        (Edit("tensor.py", _RUN, f"{_RUN}        if func is _aten.mul.Tensor:\n            result = result + 1\n"),),
        of="sim",
    ),
    _sim(
        "get-device-writes-none-into-the-name",
        "DEV-003",
        _NAMED,
        'return f"sim:{device_id}"',
    ),
    _sim(
        "get-device-answers-with-an-object", "DEV-003", _NAMED, f"{_NAMED.replace('return ', 'return torch.device(')})"
    ),
    _acme("get-device-wants-a-number", "DEV-003", 'return "cpu"', 'return "cpu" if device_id >= 0 else ""'),
    _sim(
        "set-device-does-nothing",
        "DEV-004",
        "make_current(runtime().index_of(device))",
        "runtime().index_of(device)",
    ),
    Defect(
        "synchronize-does-not-wait",
        "DEV-005",
        (
            Edit(_SIM, "current_stream().synchronize()", "pass"),
            # A device whose copies to the host are really asynchronous: done when its stream is waited for.
            Edit("tensor.py", _DRAWS, f"{_LATER}{_DRAWS}"),
            Edit("streams.py", _STREAM, f"{_STREAM}\n        self.copies = []"),
            Edit(
                "streams.py",
                _WAIT,
                f"{_WAIT}\n        for func, args, kwargs in self.copies:\n            func(*args, **kwargs)",
            ),
        ),
        of="sim",
    ),
    _acme("synchronize-is-misspelt", "DEV-006", "torch.cpu.synchronize()", "torch.cpu.synchronise()"),
    _sim(
        "empty-cache-fails-on-an-idle-device",
        "DEV-006",
        "        for ledger in runtime().ledgers:\n            ledger.empty_cache()",
        "        if not any(ledger.reserved for ledger in runtime().ledgers):\n"
        '            raise RuntimeError("no context")\n'
        "        for ledger in runtime().ledgers:\n            ledger.empty_cache()",
    ),
    _acme(
        "empty-cache-frees-live-tensors",
        "DEV-007",
        "        gc.collect()",
        "        for thing in gc.get_objects():\n"
        "            if isinstance(thing, torch.Tensor):\n"
        "                thing.zero_()",
    ),
    _acme("device-name-is-blank", "DEV-008", 'return "Acme One"', 'return ""'),
    _acme(
        "uuid-is-new-at-every-call",
        "DEV-009",
        'return f"ACME-0000-{device_id:04d}"',
        'return f"ACME-{random.random()}"',
    ),
    Defect(
        "uuid-differs-between-processes",
        "DEV-009",
        (
            Edit(_ACME, "import gc\n", "import gc\nimport os\n"),
            Edit(_ACME, 'f"ACME-0000-{device_id:04d}"', 'f"ACME-{os.getpid()}"'),
        ),
    ),
    _acme("uuid-is-long", "DEV-009", 'f"ACME-0000-{device_id:04d}"', 'f"ACME-{device_id:0300d}"'),
    _acme("uuid-ends-a-line", "DEV-009", 'f"ACME-0000-{device_id:04d}"', 'f"ACME-{device_id:04d}\\n"'),
    Defect(
        "uuid-is-an-address",
        "DEV-009",
        (
            Edit(_ACME, 'return f"ACME-0000-{device_id:04d}"', "return _UUIDS.setdefault(device_id, object())"),
            Edit(_ACME, "TOTAL = 16 << 30", "TOTAL = 16 << 30\n_UUIDS: dict[int, object] = {}"),
        ),
    ),
    _acme("uuid-is-none", "DEV-009", 'return f"ACME-0000-{device_id:04d}"', "return None"),
    _acme("uuid-is-a-path", "DEV-022", 'f"ACME-0000-{device_id:04d}"', 'f"/dev/acme{device_id}"'),
    _sim(
        "uuid-is-the-models",
        "DEV-010",
        "hardware.device_uuid(runtime().index_of(device_id))",
        "hardware.device_uuid(0 * runtime().index_of(device_id))",
    ),
    _acme(
        "capability-is-a-bare-tuple",
        "DEV-011",
        "def get_device_capability(self, device_id: int = 0) -> None:\n        return None",
        "def get_device_capability(self, device_id: int = 0) -> tuple[int, int]:\n        return (8, 0)",
    ),
    _sim("capability-is-a-text", "DEV-011", "return DeviceCapability(*hardware.CAPABILITY)", 'return "1.0"'),
    _sim(
        "capability-has-a-two-digit-minor",
        "DEV-012",
        "DeviceCapability(*hardware.CAPABILITY)",
        "DeviceCapability(1, 12)",
    ),
    _reindexing(
        "reindex-gives-the-variable", "DEV-013", '        yield os.environ["ACME_VISIBLE_DEVICES"]\n' + _PUT_BACK
    ),
    _giving("reindex-gives-always-the-first", "0"),
    _giving("reindex-counts-from-the-end", "runtime().hardware.devices - 1 - device_id"),
    _giving(
        "reindex-gives-what-it-hides",
        "device_id",
        *VISIBLE,
        hides='        os.environ["SGLANG_SIM_VISIBLE"] = str(device_id)\n',
    ),
    _reindexing("reindex-leaves-the-variable", "DEV-014", "        yield 0\n"),
    _reindexing("reindex-leaves-the-variable-after-an-error", "DEV-015", "        yield 0\n" + _PUT_BACK),
    _sim(
        "seed-misses-the-devices",
        "DEV-016",
        "torch.manual_seed(seed)\n        runtime().manual_seed_all(seed)",
        "torch.default_generator.manual_seed(seed)",
    ),
    _acme("seed-of-none-is-zero", "DEV-016", "if seed is not None:", "seed = seed or 0\n        if True:"),
    _acme(
        "inference-mode-is-empty",
        "DEV-017",
        _SEED,
        f"    @classmethod\n    def inference_mode(cls) -> object:\n        return torch.enable_grad()\n\n{_SEED}",
    ),
    _acme(
        "profiler-activity-is-left-out",
        "DEV-018",
        "        return torch.profiler.ProfilerActivity.CPU\n",
        "        raise NotImplementedError\n",
    ),
    _acme("profiler-activity-has-another-name", "DEV-019", '        return "CPU"', '        return "ACME"'),
    Defect(
        "supported-quantization-is-refused",
        "DEV-020",
        (
            Edit(
                "platform.py",
                "    supported_quantization: list[str] = []",
                '    supported_quantization: list[str] = ["fp8"]',
            ),
            Edit(_SIM, "if quant and quant not in supported:", "if quant:"),
        ),
        of="sim",
    ),
    _sim(
        "index-beyond-the-last-device-wraps",
        "DEV-021",
        'f"sim:{runtime().index_of(device_id)}"',
        'f"sim:{device_id % runtime().hardware.devices}"',
    ),
    _moving("empty-cache-ends-on-the-first-device", "DEV-023", _EMPTY),
    _moving("synchronize-ends-on-the-first-device", "DEV-023", "        current_stream().synchronize()"),
    _sim("uuid-is-asked-on-the-first-device", "DEV-023", _UUID, f"runtime().thread.device = 0\n        {_UUID}"),
    _sim("uuid-chooses-its-device", "DEV-024", _UUID, f"self.set_device(device_id)\n        {_UUID}"),
    _moving("seed-ends-on-the-first-device", "DEV-024", "        torch.manual_seed(seed)"),
    Defect(
        "init-again-chooses-the-first-device",
        "DEV-024",
        (
            Edit(
                "platform.py",
                "        device.register()\n        distributed.register()",
                "        device.register()\n        distributed.register()\n        runtime().thread.device = 0",
            ),
            Edit("platform.py", "        self.init_backend()\n", "        self.get_device(local_rank)\n"),
        ),
        of="sim",
    ),
)
