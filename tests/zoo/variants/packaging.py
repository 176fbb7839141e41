"""Other right ways to package a plugin."""

from __future__ import annotations

from zoo.workshop import Edit, Variant


def _on_import(code: str) -> tuple[Edit, ...]:
    return (Edit("__init__.py", "import os\n", f"import os\n{code}\n"),)


VARIANTS: tuple[Variant, ...] = (
    Variant(
        "imports-torchs-compiler",
        ("PKG-006", "PKG-007", "PKG-015", "PKG-016"),
        _on_import("import torch._dynamo"),
        "torch wraps its own torch.manual_seed and names its cache's folder when its compiler is imported",
    ),
    Variant(
        "imports-extension-modules",
        ("PKG-007", "PKG-016"),
        _on_import("import numpy.random\nimport xml.parsers.expat"),
        "C code leaves modules without a spec in sys.modules, as pybind11's and Cython's do",
    ),
    Variant(
        "makes-a-module-of-its-own",
        ("PKG-007",),
        _on_import("import sys, types\nsys.modules['acme.ops'] = types.ModuleType('acme.ops')"),
        "a module below the vendor's own package hides nobody's",
    ),
    Variant(
        "registers-a-device-that-is-always-initialised",
        ("PKG-007", "PKG-010", "INIT-006"),
        _on_import(
            "import torch, types\n_device = types.ModuleType('torch.privateuseone')\n"
            "_device.is_initialized = lambda: True\n_device.device_count = lambda: 1\n"
            "torch._register_device_module('privateuseone', _device)"
        ),
        "a device that needs no start says so from the first, as torch.cpu does",
    ),
    Variant(
        "reads-sglangs-version",
        ("PKG-003",),
        _on_import("from sglang.version import __version__\nassert __version__ >= '0.5'"),
        "sglang.version is a module of every release",
    ),
    Variant(
        "reads-the-version-of-sglangs-distribution",
        ("PKG-003", "ACT-013"),
        _on_import("import importlib.metadata\nassert importlib.metadata.version('sglang') >= '0.5'"),
        "SGLang is an installed distribution wherever a plugin of it runs",
    ),
    Variant(
        "requires-sglang",
        ("PKG-011",),
        (Edit("METADATA", "", "Requires-Dist: sglang>=0.5.20\nRequires-Dist: torch>=2.4\n"),),
        "the host is the release that the reference follows",
    ),
    Variant(
        "has-a-group-of-its-own",
        ("PKG-013",),
        (Edit("entry_points.txt", "", "\n[sglang_acme.kernels]\nrms_norm = acme.platform:AcmeGraphRunner\n"),),
        "SGLang's groups begin with sglang.; this one is the vendor's",
    ),
    Variant(
        "appends-to-the-path",
        ("PKG-016",),
        _on_import("import random, sys\nsys.path.append(os.path.dirname(__file__))\nrandom.random()"),
        "what stands behind hides nothing, and drawing a number seeds nothing",
    ),
)
