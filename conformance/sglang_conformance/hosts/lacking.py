"""What a real SGLang lacks in this environment: all packages that it wants, told at once, and how to add them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

# Packages whose distribution has another name (0.5.11 to 0.5.23, srt/utils/common.py and srt/distributed).
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "zmq": "pyzmq",
    "tvm_ffi": "apache-tvm-ffi",
    "yaml": "pyyaml",
    "cv2": "opencv-python",
    "sgl_kernel": "sgl-kernel",
    "cutlass": "nvidia-cutlass-dsl",
    "cuda": "cuda-python",
}
_FOR_GPUS = ("sgl_kernel", "cutlass", "cuda")  # which load on NVIDIA's GPUs alone
_BUILT_FOR_TORCH = ("torchvision", "torchaudio", "torchao")  # whose newest release would bring another torch with it
_CATCH_IT = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def told(error: BaseException, modules: Sequence[str]) -> str:
    """Why SGLang does not import here, on one line, and how to mend it; ``modules``: those that are to be imported.

    It imports them once more, with something in place of each package that is not here, so as to meet all of them, and
    forgets them again.
    """
    missing = packages(error, modules)
    if missing:
        return of(missing)
    what = _what()
    said = " ".join(str(error).split())
    place = _package_of(error)
    if place in ("", "sglang"):
        return f"{what}: {type(error).__name__}: {said}"
    named = f"{place} {_version(place)}".strip()
    if (wanted := _pinned(place)) != place:
        return f"{what}: {named}, which it wants, fails with {type(error).__name__}: {said}; pip install {wanted}"
    return (
        f"{what}: {named}, which it wants, fails with {type(error).__name__}: {said}; "
        f"install a {place} that fits torch {_version('torch')} and this machine"
    )


def of(missing: Sequence[str]) -> str:
    """That SGLang does not import here for want of these packages, and the command that adds them."""
    return f"{_what()}: it lacks {', '.join(missing)}; {command(missing)}{_where(missing)}"


def _what() -> str:
    release = _version("sglang")
    return f"SGLang{f' {release}' if release else ''} does not import here"


def command(missing: Sequence[str]) -> str:
    """The command that installs these packages, by the names of their distributions, and leaves torch as it is."""
    names = [_pinned(_DISTRIBUTIONS.get(name, name)) for name in missing]
    kept = [f"torch=={_version('torch').partition('+')[0]}"] if set(missing) & set(_BUILT_FOR_TORCH) else []
    return " ".join(["pip install", *kept, *names])


def _where(missing: Sequence[str]) -> str:
    """Which of these packages can be had with an NVIDIA GPU alone, as an addition to a line."""
    theirs = [name for name in missing if name in _FOR_GPUS]
    return f", on a machine with an NVIDIA GPU ({', '.join(theirs)})" if theirs else ""


def _pinned(distribution: str) -> str:
    """The distribution in the one version that SGLang says, where it says one that torch has no part in."""
    if distribution in _BUILT_FOR_TORCH:
        return distribution
    pattern = "[-_.]".join(map(re.escape, re.split("[-_.]", distribution)))
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for wanted in importlib.metadata.requires("sglang") or ():
            if re.fullmatch(rf"{pattern}==[\w.!+]+", wanted.replace(" ", ""), re.IGNORECASE):
                return wanted.replace(" ", "")
    return distribution


def packages(error: BaseException, modules: Sequence[str]) -> list[str]:
    """The packages for want of which these modules do not import; none where it is for something else."""
    first = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not first or first == "sglang" or is_here(first):
        return []
    standing = _StandingIn(first)
    if "sglang" not in sys.modules:  # its import failed, and left some of its parts
        for name in [name for name in sys.modules if name.startswith("sglang.")]:
            del sys.modules[name]
    before = set(sys.modules)
    sys.meta_path.append(standing)
    try:
        for module in modules:
            with contextlib.suppress(Exception):  # what stands in for a package cannot do all that it can
                importlib.import_module(module)
    finally:
        sys.meta_path.remove(standing)
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in ("sglang", *standing.missing):
                del sys.modules[name]
    return standing.missing


def is_here(name: str) -> bool:
    """Whether some finder has the package: an editable installation may have one of its own."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return name in sys.modules


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _package_of(error: BaseException) -> str:
    """The package whose line raised an error."""
    trace, name = error.__traceback__, ""
    while trace is not None:
        said = str(trace.tb_frame.f_globals.get("__name__", ""))
        name = name if said.startswith(("importlib", "_frozen_importlib", "torch.")) else said
        trace = trace.tb_next
    return name.partition(".")[0]


class _StandingIn:
    """A finder, the last one, that finds every package that is wanted and not here, and notes it.

    Not where whoever imports it can do without: within a ``try`` that takes the ImportError, at any depth of the call.
    """

    def __init__(self, first: str) -> None:
        self.missing = [first]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if top not in self.missing:
            if path is not None or top in ("sglang", *sys.stdlib_module_names) or _is_guarded(sys._getframe(1)):
                return None
            self.missing.append(top)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: what is asked of it is made when it is asked."""


class _Anything(ModuleType):
    """A module that has whatever it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Kind(name, (), {})


class _Kind(type):
    """A class that can be a base, a decorator, an annotation, and has whatever it is asked for."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Kind(name, (), {})

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) else cls

    def __getitem__(cls, key: Any) -> Any:
        return cls

    def __iter__(cls) -> Iterator[Any]:
        return iter(())  # else Python would go on asking for items

    def __or__(cls, other: Any) -> Any:
        return cls

    __ror__ = __or__


def _is_guarded(frame: FrameType | None) -> bool:
    """Whether one of the callers takes an ImportError, or only asks whether there is such a package."""
    while frame is not None and frame.f_globals.get("__name__") != __name__:
        name = str(frame.f_globals.get("__name__", ""))
        if name == "importlib.util":
            return True
        if name.partition(".")[0] not in ("importlib", "_frozen_importlib", "_frozen_importlib_external"):
            file, line = frame.f_code.co_filename, frame.f_lineno
            if any(first <= line <= last for first, last in _guarded(file)):
                return True
        frame = frame.f_back
    return False


@functools.cache
def _guarded(file: str) -> tuple[tuple[int, int], ...]:
    """The lines of a file that stand within something that takes an ImportError."""
    try:
        tree = ast.parse(Path(file).read_text())
    except (OSError, SyntaxError, ValueError):
        return ()
    return tuple(_spans(tree))


def _spans(tree: ast.AST) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            kinds = [handler.type for handler in node.handlers]
            taken = any(kind is None or _CATCH_IT & _names(kind) for kind in kinds)
        elif isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items]
            taken = any("suppress" in _names(call) and _CATCH_IT & _names(call) for call in calls)
        else:
            continue
        if taken:
            yield node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno


def _names(node: ast.AST) -> set[str]:
    return {getattr(each, "id", "") or getattr(each, "attr", "") for each in ast.walk(node)}
