"""What was replaced in the modules that vendors patch, and which modules no import made.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import operator
import os
import sys
import types
from collections.abc import Collection, Iterator, Mapping
from importlib.machinery import BuiltinImporter, ExtensionFileLoader
from typing import Any

WATCHED = frozenset(
    {
        *("torch", "torch._tensor", "torch.accelerator", "torch.amp", "torch.autograd", "torch.autograd.grad_mode"),
        *("torch.backends", "torch.backends.cuda", "torch.backends.cudnn", "torch.backends.mps", "torch.compiler"),
        *("torch.cuda", "torch.cuda.graphs", "torch.cuda.memory", "torch.cuda.streams", "torch.distributed"),
        *("torch.distributed.distributed_c10d", "torch.jit", "torch.library", "torch.multiprocessing"),
        *("torch.nn.functional", "torch.nn.init", "torch.nn.modules.activation", "torch.nn.modules.conv"),
        *("torch.nn.modules.linear", "torch.nn.modules.module", "torch.nn.modules.normalization"),
        *("torch.nn.modules.sparse", "torch.nn.parameter", "torch.optim.optimizer", "torch.profiler"),
        *("torch.random", "torch.serialization", "torch.storage", "torch.utils", "torch.utils.cpp_extension"),
        *("torch.utils.data", "torch.utils._python_dispatch", "torch.version", "torch.xpu"),
        *("builtins", "importlib", "importlib.metadata", "json", "logging", "multiprocessing"),
        *("multiprocessing.context", "multiprocessing.process", "os", "pkgutil", "signal", "subprocess", "sys"),
        "threading",
    }
)
"""The modules whose functions and classes are watched for patches, with all of ``sglang``: where vendors patch. Not all
of torch: its two thousand modules would cost a quarter of a second each time."""

VALUES = frozenset({"torch.version"})
"""Those of them whose plain values count too: SGLang tells CUDA from ROCm by them (0.5.23, srt/utils/common.py)."""

Namespaces = Mapping[str, tuple[Any, Mapping[str, Any]]]


def namespaces() -> Namespaces:
    """The watched modules, and the classes they define, by their paths: each with a copy of its namespace."""
    found: dict[str, tuple[Any, Mapping[str, Any]]] = {}
    for module_name, module in list(sys.modules.items()):
        watched = module_name in WATCHED or module_name.partition(".")[0] == "sglang"
        if not watched or not isinstance(module, types.ModuleType):
            continue
        names = dict(vars(module))
        found[module_name] = (module, names)
        for name, value in names.items():
            # type(), not isinstance(): the latter runs the __class__ properties of torch's deprecated names.
            if issubclass(type(value), type) and value.__module__ == module_name:
                found[f"{module_name}.{name}"] = (value, dict(vars(value)))
    return found


def patches(before: Namespaces, after: Namespaces, *, new_modules: Collection[str] = ()) -> Iterator[str]:
    """Functions and classes that are another object now. What is new patches what it hides in a base class.

    Those that torch wrapped itself, where it has imported its compiler since, are not among them.
    """
    compiling = "torch._dynamo" in new_modules
    for path, (owner, old) in before.items():
        new = after[path][1] if path in after and after[path][0] is owner else old
        if list(new) == list(old) and all(map(operator.is_, new.values(), old.values())):
            continue
        for name, value in old.items():
            if new.get(name) is value or not (_is_function_or_class(value) or _counts(path, name)):
                continue
            if not (compiling and _is_wrapped_by_torch(value, new.get(name))):
                yield f"{path}.{name}"
        if isinstance(owner, type):
            for name in new.keys() - old.keys():
                if any(_is_function_or_class(vars(base).get(name)) for base in owner.__mro__[1:]):
                    yield f"{path}.{name}"


def stubs(new: Mapping[str, Any]) -> Iterator[str]:
    """Those of the new modules that no import made, but Python code put into ``sys.modules``.

    Extension modules leave some without a spec behind: pybind11 their submodules, Cython 3 two of its own.
    """
    for name, module in new.items():
        if not isinstance(module, types.ModuleType) or getattr(module, "__spec__", None) is not None:
            continue
        of_cython = name == "cython_runtime" or name.startswith("_cython_")
        # Under its own name too: Python itself puts pyexpat's into sys.modules as xml.parsers.expat's.
        of_extension = any(map(_is_part_of_extension, (name, module.__name__)))
        if not of_cython and not of_extension and not _is_device_module(name, module):
            yield name


def _counts(path: str, name: str) -> bool:
    return path in VALUES and not name.startswith("__")


def _is_function_or_class(value: Any) -> bool:
    return issubclass(type(value), _FUNCTIONS)


_FUNCTIONS = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    staticmethod,
    classmethod,
    property,
)


def _is_wrapped_by_torch(old: Any, new: Any) -> bool:
    """Whether the new function leads to the old one through wrappers that are all torch's own code."""
    home = os.path.join(os.path.dirname(str(sys.modules["torch"].__file__)), "")
    while new is not old:
        code = getattr(new, "__code__", None)
        if code is None or not code.co_filename.startswith(home):
            return False
        new = getattr(new, "__wrapped__", None)
    return True


def _is_part_of_extension(name: str) -> bool:
    """Whether a module above this one is of C code, which makes its submodules itself."""
    while name := name.rpartition(".")[0]:
        loader = getattr(getattr(sys.modules.get(name), "__spec__", None), "loader", None)
        if isinstance(loader, ExtensionFileLoader) or loader is BuiltinImporter:
            return True
    return False


def _is_device_module(name: str, module: Any) -> bool:
    """Whether it is what ``torch._register_device_module`` was given: torch's own way to add ``torch.<device>``."""
    parent, _, device = name.rpartition(".")
    torch = sys.modules.get("torch")
    if parent != "torch" or torch is None or getattr(torch, device, None) is not module:
        return False
    return bool(torch._C._get_privateuse1_backend_name() == device)
