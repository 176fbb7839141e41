"""Plugins that are wrongly packaged, or do too much when they are imported."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_HEAD = "import os\n"


def _on_import(code: str) -> tuple[Edit, ...]:
    return (Edit("__init__.py", _HEAD, f"{_HEAD}\n{code}\n"),)


DEFECTS = (
    Defect(
        "registered-under-a-group-that-is-gone",
        "PKG-001",
        (Edit("entry_points.txt", "[sglang.srt.platforms]", "[sglang.platform_plugins]"),),
        also=("PKG-013",),
    ),
    Defect(
        "hooks-registered-under-a-group-that-is-gone",
        "PKG-013",
        (Edit("entry_points.txt", "[sglang.srt.plugins]", "[sglang.general_plugins]"),),
    ),
    Defect(
        "two-entry-points-of-one-name",
        "PKG-002",
        (
            Edit(
                "../other-2.0.dist-info/entry_points.txt",
                "",
                "[sglang.srt.platforms]\nacme = acme:activate\n",
            ),
            Edit("../other-2.0.dist-info/METADATA", "", "Metadata-Version: 2.1\nName: other\nVersion: 2.0\n"),
        ),
        also=("SEL-002", "SEL-005"),
    ),
    Defect("imports-a-module-that-is-absent", "PKG-003", _on_import("import acme_driver_that_is_absent")),
    Defect("import-raises", "PKG-003", _on_import("raise RuntimeError('driver 1.2 is older than 1.3')")),
    Defect("import-exits", "PKG-003", _on_import("os._exit(0)")),
    Defect("import-raises-systemexit", "PKG-003", _on_import("raise SystemExit(3)")),
    Defect("import-hangs", "PKG-003", _on_import("import time; time.sleep(600)"), deadline=0.5),
    Defect("import-is-killed", "PKG-003", _on_import("os.kill(os.getpid(), 11)")),
    Defect("import-prints-and-raises", "PKG-003", _on_import("print('x' * (200 << 20)); raise OSError('no driver')")),
    Defect(
        "entry-point-names-a-module",
        "PKG-004",
        (Edit("entry_points.txt", "acme = acme:activate", "acme = acme"),),
    ),
    Defect(
        "import-sets-rank",
        "PKG-005",
        _on_import("os.environ.setdefault('RANK', '0'); os.environ['MASTER_ADDR'] = 'localhost'"),
        also=("PKG-006",),
    ),
    Defect("import-sets-a-variable-of-its-own", "PKG-006", _on_import("os.environ['ACME_READY'] = '1'")),
    Defect(
        "import-patches-torch",
        "PKG-007",
        _on_import("import torch\n_old = torch.Tensor.to\ntorch.Tensor.to = lambda self, *a, **k: _old(self, *a, **k)"),
    ),
    Defect(
        "import-plants-a-stub",
        "PKG-007",
        _on_import("import sys, types\nsys.modules['flash_attn'] = types.ModuleType('flash_attn')"),
    ),
    Defect("import-claims-another-cuda", "PKG-007", _on_import("import torch\ntorch.version.cuda = '12.4'")),
    Defect(
        "import-patches-the-accelerator",
        "PKG-007",
        _on_import("import torch\ntorch.accelerator.current_accelerator = lambda *a: torch.device('cpu')"),
    ),
    Defect(
        "import-patches-a-layer",
        "PKG-007",
        _on_import(
            "import torch\n_old = torch.nn.Linear.forward\ntorch.nn.Linear.forward = lambda self, x: _old(self, x)"
        ),
    ),
    Defect(
        "import-wraps-torch-and-imports-its-compiler",
        "PKG-007",
        _on_import(
            "import functools, torch, torch._dynamo\n_seed = torch.manual_seed\n"
            "torch.manual_seed = functools.wraps(_seed)(lambda seed: _seed(seed + 1))"
        ),
    ),
    Defect(
        "import-brings-in-a-subsystem",
        "PKG-008",
        _on_import("import sglang.srt.distributed.parallel_state"),
        release="0.5.11",  # later that module asks for the platform when it is imported, and the import fails
    ),
    Defect(
        "import-starts-a-thread",
        "PKG-009",
        _on_import("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"),
        also=("INIT-006",),
    ),
    Defect(
        "import-initialises-a-device",
        "PKG-010",
        _on_import("import torch\ntorch.cuda._initialized = True"),
        also=("INIT-006",),
    ),
    Defect(
        "import-changes-the-default-dtype",
        "PKG-015",
        _on_import("import torch\ntorch.set_default_dtype(torch.float64)"),
    ),
    Defect(
        "import-changes-the-default-device", "PKG-015", _on_import("import torch\ntorch.set_default_device('meta')")
    ),
    Defect("import-turns-gradients-off", "PKG-015", _on_import("import torch\ntorch.set_grad_enabled(False)")),
    Defect("import-silences-logging", "PKG-016", _on_import("import logging\nlogging.disable(logging.CRITICAL)")),
    Defect("import-replaces-stdout", "PKG-016", _on_import("import io, sys\nsys.stdout = io.StringIO()")),
    Defect("import-seeds-random", "PKG-016", _on_import("import random\nrandom.seed(0)")),
    Defect("import-changes-the-umask", "PKG-016", _on_import("os.umask(0o077)")),
    Defect(
        "import-puts-a-folder-first-on-the-path",
        "PKG-016",
        _on_import("import sys\nsys.path.insert(0, os.path.dirname(__file__))"),
    ),
    Defect(
        "requires-an-older-sglang",
        "PKG-011",
        (Edit("METADATA", "Version: 1.0\n", "Version: 1.0\nRequires-Dist: sglang<0.5.20\n"),),
    ),
    Defect(
        "depends-on-what-is-not-installed",
        "PKG-011",
        (Edit("METADATA", "Version: 1.0\n", "Version: 1.0\nRequires-Dist: acme-sdk>=3\n"),),
    ),
    Defect(
        "version-is-no-version",
        "PKG-014",
        (Edit("METADATA", "Version: 1.0\n", "Version: latest\n"),),
    ),
)
