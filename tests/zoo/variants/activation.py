"""Other right ways to activate a platform."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_ANSWER = '    return "acme.platform.AcmePlatform"\n'


def _first(code: str) -> tuple[Edit, ...]:
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return (Edit("__init__.py", _ANSWER, lines + _ANSWER),)


def _on_class(code: str) -> tuple[Edit, ...]:
    return (Edit("platform.py", "import torch\n", f"import torch\n{code}\n"),)


VARIANTS: tuple[Variant, ...] = (
    Variant(
        "activates-with-torchs-compiler",
        ("ACT-008", "ACT-009", "ACT-016", "ACT-017"),
        _first("import torch._dynamo"),
        "torch wraps its own torch.manual_seed and names its cache's folder when its compiler is imported",
    ),
    Variant(
        "class-module-compiles-a-function",
        ("ACT-003", "ACT-018"),
        (
            Edit(
                "platform.py",
                "class AcmeGraphRunner:",
                "@torch.compile\ndef _f(x): return x\n\n\nclass AcmeGraphRunner:",
            ),
        ),
        "torch.compile imports torch's compiler",
    ),
    Variant(
        "answers-with-a-kind-of-str",
        ("ACT-002", "ACT-005", "SEL-001", "SEL-002"),
        _first("return type('Path', (str,), {})('acme.platform.AcmePlatform')"),
        "pkgutil.resolve_name takes any str",
    ),
    Variant(
        "asks-the-driver-in-a-spawned-process",
        ("ACT-011", "ACT-015"),
        _first(
            "import multiprocessing\nwith multiprocessing.get_context('spawn').Pool(1) as pool:\n"
            "    if pool.apply(os.getpid) == 0:\n        return None"
        ),
        "Python's resource tracker ends with the process that started it",
    ),
    Variant(
        "class-sets-variables-of-its-own",
        ("ACT-014",),
        _on_class(
            "import os\nos.environ.setdefault('PYTORCH_ACME_ALLOC_CONF', 'expandable_segments:True')\n"
            "os.environ.setdefault('SGLANG_ACME_USE_FUSED', '1')"
        ),
        "only the vendor reads what bears its name",
    ),
    Variant(
        "class-module-reads-sglangs-version",
        ("ACT-003", "SEL-001"),
        _on_class("from sglang import version\nassert version.__version__"),
        "sglang.version is a module of every release",
    ),
)
