"""Plugins whose ``activate()`` answers wrongly, or does more than answer."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_ANSWER = '    return "acme.platform.AcmePlatform"\n'


def _answers(expression: str, *more: Edit) -> tuple[Edit, ...]:
    return (Edit("__init__.py", _ANSWER, f"    return {expression}\n"), *more)


def _first(code: str) -> tuple[Edit, ...]:
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return (Edit("__init__.py", _ANSWER, lines + _ANSWER),)


def _on_class(code: str) -> tuple[Edit, ...]:
    return (Edit("platform.py", "import torch\n", f"import torch\n{code}\n"),)


def _on_construction(code: str) -> tuple[Edit, ...]:
    method = f"    def __init__(self) -> None:\n        super().__init__()\n        {code}\n\n"
    return (Edit("platform.py", "    supported_quantization", f"{method}    supported_quantization"),)


DEFECTS = (
    Defect("activate-raises", "ACT-001", _first("raise RuntimeError('no driver')")),
    Defect("activate-takes-an-argument", "ACT-001", (Edit("__init__.py", "activate()", "activate(server_args)"),)),
    Defect("activate-hangs", "ACT-001", _first("import time; time.sleep(600)"), deadline=0.5),
    Defect("activate-exits", "ACT-001", _first("os._exit(1)")),
    Defect("activate-returns-the-class", "ACT-002", _first("from acme.platform import AcmePlatform as p; return p")),
    Defect("activate-returns-an-empty-text", "ACT-002", _answers('""')),
    Defect("activate-finds-no-hardware", "ACT-002", _answers("None")),
    Defect("activate-is-a-coroutine", "ACT-002", (Edit("__init__.py", "def activate()", "async def activate()"),)),
    Defect("activate-returns-true", "ACT-002", _answers("True")),
    Defect("class-path-is-misspelt", "ACT-003", _answers('"acme.platform.AcmePlatfrom"')),
    Defect("class-path-names-a-function", "ACT-003", _answers('"acme.activate"')),
    Defect(
        "class-module-does-not-import", "ACT-003", (Edit("platform.py", "import torch\n", "import torch, acme_x\n"),)
    ),
    Defect("class-is-of-another-base", "ACT-004", _answers('"acme.device.AcmeDeviceMixin"')),
    Defect(
        "activate-forgets-its-answer",
        "ACT-005",
        _first("if os.environ.setdefault('ACME_ASKED', '') : return None\nos.environ['ACME_ASKED'] = '1'"),
        also=("ACT-008", "SEL-001", "SEL-002", "SEL-005", "SEL-008"),
    ),
    Defect(
        "activates-only-when-named",
        "ACT-006",
        _first("if os.environ.get('SGLANG_PLATFORM') != 'acme': return None"),
        also=("SEL-002", "SEL-005", "SEL-008"),
    ),
    Defect(
        "activate-sets-world-size",
        "ACT-007",
        _first("os.environ['WORLD_SIZE'] = '1'"),
        also=("ACT-008",),
    ),
    Defect("activate-sets-a-variable-of-its-own", "ACT-008", _first("os.environ['ACME_SEEN'] = '1'")),
    Defect(
        "activate-patches-torch",
        "ACT-009",
        _first("import torch\ntorch.cuda.is_available = lambda: True"),
    ),
    Defect(
        "activate-initialises-a-device",
        "ACT-010",
        _first("import torch\ntorch.cuda._initialized = True"),
        also=("INIT-006",),
    ),
    Defect(
        "activate-starts-a-thread",
        "ACT-011",
        _first("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"),
        also=("INIT-006",),
    ),
    Defect(
        "activate-brings-in-a-subsystem",
        "ACT-012",
        _first("import sglang.srt.distributed.parallel_state"),
        also=("SEL-002", "SEL-005", "SEL-008"),  # where the platform is being resolved it finds a half-made one
    ),
    Defect(
        "catch-all-takes-a-broken-driver-for-absent-hardware",
        "ACT-013",
        (
            Edit("driver.py", "", "VERSION = 1\n"),
            *_first("try:\n    import acme.driver\nexcept Exception:\n    return None"),
        ),
    ),
    Defect(
        "class-sets-local-rank",
        "ACT-014",
        (Edit("platform.py", "import torch\n", "import os\nimport torch\n\nos.environ['LOCAL_RANK'] = '0'\n"),),
    ),
    Defect(
        "activate-leaves-a-daemon",
        "ACT-015",
        _first("import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"),
    ),
    Defect(
        "activate-changes-the-default-dtype",
        "ACT-016",
        _first("import torch\ntorch.set_default_dtype(torch.float64)"),
    ),
    Defect("class-changes-the-default-dtype", "ACT-016", _on_class("torch.set_default_dtype(torch.float64)")),
    Defect(
        "construction-changes-the-default-dtype",
        "ACT-016",
        _on_construction("torch.set_default_dtype(torch.float64)"),
    ),
    Defect("activate-sets-the-socket-timeout", "ACT-017", _first("import socket; socket.setdefaulttimeout(1.0)")),
    Defect(
        "activate-chooses-how-processes-start",
        "ACT-017",
        _first("import multiprocessing; multiprocessing.set_start_method('fork', force=True)"),
    ),
    Defect(
        "activate-lowers-a-limit",
        "ACT-017",
        _first(
            "import resource\nhard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))"
        ),
    ),
    Defect("class-patches-torch", "ACT-018", _on_class("torch.cuda.is_available = lambda: True")),
    Defect("construction-patches-torch", "ACT-018", _on_construction("torch.cuda.is_available = lambda: True")),
    Defect(
        "activate-answers-with-a-line-end",
        "ACT-003",
        (
            Edit(
                "__init__.py",
                '    return "acme.platform.AcmePlatform"\n',
                '    return "acme.platform.AcmePlatform\\n"\n',
            ),
        ),
    ),
)
