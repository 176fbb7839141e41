"""Wrong starts of the device, and wrong handling of the loaded model."""

from __future__ import annotations

from zoo import serving_parts as parts
from zoo.workshop import Defect, Edit

_FILE = "platform.py"
_START = "        torch.set_flush_denormal(False)\n"
_INIT = "    def init_backend(self) -> None:\n"


def _start(name: str, requirement: str, lines: str, also: tuple[str, ...] = ()) -> Defect:
    """A right start of the device with something wrong behind it."""
    body = "".join(f"        {line}\n" for line in lines.splitlines())
    return Defect(name, requirement, (Edit(_FILE, _START, _START + body),), also=also)


def _model(name: str, requirement: str, lines: str, also: tuple[str, ...] = ()) -> Defect:
    """A platform with a post_load_model of its own."""
    body = "".join(f"        {line}\n" for line in lines.splitlines())
    method = f"    def post_load_model(self, model: Any) -> Any:\n{body}\n"
    return Defect(name, requirement, (Edit(_FILE, _INIT, method + _INIT),), also=also)


def _serving(name: str, requirement: str, *edits: Edit, also: tuple[str, ...] = ()) -> Defect:
    """A start, or a model handed over, that is wrong once something is served."""
    return Defect(name, requirement, edits, of="sim", also=also, deadline=30.0)


def _old(kind: str) -> tuple[str, ...]:
    """Lines that compute with the weights that modules of a class had when the model was handed over."""
    return (
        "for each in model.modules():",
        f"    if type(each).__name__ == {kind!r}:",
        "        own = dict(each.named_parameters())['weight']",
        "        each.old = own.data.clone()",
        "        each.register_forward_pre_hook(lambda each, given: each.weight.data.copy_(each.old) is None or None)",
    )


_LAST = "        admit(self.device_type)\n"
_KEPT = """\
        if not hasattr(self, "space"):
            self.space = torch.zeros(1 << 16, dtype=torch.uint8, device={})
"""
_AGAIN = """\
        import gc

        if getattr(self, "started", False):
            {}
        self.started = True
"""
_LIVING = "[each for each in gc.get_objects() if isinstance(each, torch.Tensor) and each.device.type == 'sim']"

DEFECTS = (
    _start("init-backend-raises", "INIT-001", 'raise OSError("libacme.so.2: cannot open shared object file")'),
    _start(
        "init-backend-only-once",
        "INIT-002",
        'if getattr(self, "started", False):\n    raise RuntimeError("already started")\nself.started = True',
    ),
    _start("init-backend-sets-the-rank", "INIT-003", 'import os\nos.environ.setdefault("RANK", "0")'),
    _start(
        "init-backend-overwrites-the-master",
        "INIT-003",
        'import os\nif "MASTER_ADDR" in os.environ:\n    os.environ["MASTER_ADDR"] = "localhost"',
    ),
    _start(
        "init-backend-sets-the-default-dtype",
        "INIT-004",
        "torch.set_default_dtype(torch.bfloat16)",
    ),
    _start("init-backend-turns-gradients-off", "INIT-004", "torch.set_grad_enabled(False)"),
    _start("init-backend-changes-the-folder", "INIT-004", 'import os\nos.chdir("/")'),
    _start("init-backend-detects-anomalies", "INIT-004", "torch.autograd.set_detect_anomaly(True)"),
    _start(
        "init-backend-makes-the-process-group",
        "INIT-004",
        "import tempfile\n"
        "if not torch.distributed.is_initialized():\n"
        '    store = "file://" + tempfile.mktemp()\n'
        '    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)',
    ),
    Defect(
        "init-backend-again-moves-the-current-device",
        "INIT-002",
        (
            Edit(
                _FILE,
                "        device.register()\n        distributed.register()\n",
                "        device.register()\n        distributed.register()\n        runtime().thread.device = 0\n",
            ),
        ),
        of="sim",
    ),
    Defect(
        "post-load-model-moves-the-current-device",
        "INIT-009",
        (
            Edit(
                _FILE,
                "    def get_dispatch_key_name(self)",
                "    def post_load_model(self, model: Any) -> None:\n"
                "        runtime().thread.device = 0\n\n"
                "    def get_dispatch_key_name(self)",
            ),
        ),
        of="sim",
    ),
    _start("init-backend-seeds-python", "INIT-005", "import random\nrandom.seed(0)"),
    _start("init-backend-seeds-torch", "INIT-005", "torch.manual_seed(0)"),
    _start(
        "init-backend-takes-the-signals", "INIT-005", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"
    ),
    Defect(
        "resolving-starts-a-thread",
        "INIT-006",
        (
            Edit(
                _FILE,
                _INIT,
                "    def __init__(self) -> None:\n"
                "        import threading\n\n"
                "        threading.Thread(target=threading.Event().wait, daemon=True).start()\n\n" + _INIT,
            ),
        ),
    ),
    Defect(
        "device-module-is-not-registered",
        "INIT-007",
        (
            Edit(
                "device_module.py",
                "    make_current(runtime().index_of(device))",
                "    raise NotImplementedError",
            ),
        ),
        of="sim",
    ),
    Defect(
        "device-module-has-no-streams",
        "INIT-007",
        (Edit("device_module.py", "stream = StreamContext\n", ""), Edit("device_module.py", '    "stream",\n', "")),
        of="sim",
    ),
    _start(
        "init-backend-wants-the-machine-for-itself",
        "INIT-008",
        "import socket, time\n"
        "self.lock = socket.socket(socket.AF_UNIX)\n"
        'self.lock.bind("\\0acme-lock")\n'
        "time.sleep(0.03)",
    ),
    _model("post-load-model-raises", "INIT-009", "raise NotImplementedError"),
    _model(
        "post-load-model-drops-the-bias",
        "INIT-009",
        'for layer in model.modules():\n    if hasattr(layer, "bias"):\n        layer.bias.data.zero_()',
    ),
    _model(
        "post-load-model-transposes-square-weights",
        "INIT-009",
        "for p in model.parameters():\n    if p.dim() == 2:\n        p.data = p.data.t().contiguous()",
    ),
    _model(
        "post-load-model-turns-rows-over",
        "INIT-009",
        "for p in model.parameters():\n    if p.dim() == 2:\n        p.data = p.data.flip(0).contiguous()",
    ),
    _model("post-load-model-trains", "INIT-009", "model.train()"),
    _model(
        "post-load-model-wants-linear-layers-only",
        "INIT-009",
        "for m in model.modules():\n"
        '    if getattr(m, "weight", None) is not None:\n'
        "        m.weight.shape[1], m.bias.shape",
    ),
    _model(
        "post-load-model-forgets-the-buffers", "INIT-009", "for buffer in model.buffers():\n    buffer.data.zero_()"
    ),
    _model("post-load-model-returns-a-copy", "INIT-011", "import copy\nreturn copy.deepcopy(model)"),
    _model(
        "post-load-model-adds-weights",
        "INIT-011",
        "model.extra = torch.nn.Linear(1, 1)",
    ),
    _model(
        "post-load-model-unties-the-head",
        "INIT-012",
        "for m in model.modules():\n"
        "    for name, p in m._parameters.items():\n"
        "        if p is not None:\n"
        "            m._parameters[name] = torch.nn.Parameter(p.detach().clone())\n"
        "            vars(m._parameters[name]).update(vars(p))",
    ),
    _model(
        "post-load-model-drops-the-weight-loaders",
        "INIT-012",
        "made = {}\n"
        "for m in model.modules():\n"
        "    for name, p in m._parameters.items():\n"
        "        if p is not None:\n"
        "            m._parameters[name] = made.setdefault(p, torch.nn.Parameter(p.detach(), requires_grad=False))",
    ),
    _start(
        "init-backend-exchanges-the-sampling",
        "INIT-013",
        "torch.multinomial = lambda shares, number, **options: torch.topk(shares, number).indices",
    ),
    _start(
        "init-backend-patches-sglang",
        "INIT-014",
        "from sglang.srt.distributed import parallel_state\n"
        'parallel_state.get_default_distributed_backend = lambda device: "gloo"',
    ),
    _start(
        "init-backend-plants-a-module",
        "INIT-014",
        'import sys, types\nsys.modules["flashinfer"] = types.ModuleType("flashinfer")',
    ),
    _start(
        "init-backend-sets-a-variable-of-sglangs",
        "INIT-015",
        'import os\nos.environ["SGLANG_ONE_VISIBLE_DEVICE_PER_PROCESS"] = "1"',
    ),
    # What shows while a model is served.
    _serving("workspace-on-the-first-device", "INIT-016", Edit(_FILE, _LAST, _LAST + _KEPT.format("'sim:0'"))),
    _serving(
        "workspace-on-the-device-that-is-current-at-first",
        "INIT-016",
        Edit(_FILE, _LAST, _LAST + _KEPT.format("'sim'")),
    ),
    _serving(
        "init-backend-again-clears-the-device",
        "INIT-017",
        Edit(_FILE, _LAST, _LAST + _AGAIN.format(f"for each in {_LIVING}: each.zero_()")),
    ),
    _serving(
        "init-backend-again-drops-the-tables-of-requests",
        "INIT-017",
        Edit(
            _FILE,
            _LAST,
            _LAST + _AGAIN.format(f"for each in {_LIVING}: each.zero_() if each.dtype == torch.int32 else 0"),
        ),
    ),
    *(
        Defect(f"old-weights-of-{what}-are-kept", "INIT-018", parts.loading(*_old(kind)), deadline=30.0)
        for what, kind in (("norms", "RMSNorm"), ("projections", "QKVParallelLinear"), ("sums", "RowParallelLinear"))
    ),
)
