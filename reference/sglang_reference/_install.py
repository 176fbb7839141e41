"""Make the reference's files importable as ``sglang.srt.*``, through one finder in front of ``sys.meta_path``."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from . import _behaviours, _detection
from ._distribution import Distributions
from ._errors import not_covered
from ._modules import MODULES
from ._releases import within

_FOLDER = Path(__file__).parent

_PLATFORMS = "sglang.srt.platforms"
_PLUGINS = "sglang.srt.plugins"


Arguments = Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None


def install(table: Mapping[str, Any], server_arguments: Arguments = None) -> None:
    """Make ``sglang`` importable as the reference, following ``table``, a release's contract as plain JSON data.

    ``server_arguments`` is the release's table of server arguments, as plain JSON data too, or what gives it when it
    is first needed; without it, SGLang's core is not covered. A second call with an equal table does nothing. Raises
    RuntimeError when another ``sglang`` is already imported in this process, when the reference is installed for
    another table, or when the table asks for a computed default or a built-in platform that the reference does not
    know.
    """
    plain: dict[str, Any] = json.loads(json.dumps(table))
    present = _installed()
    if present is not None:
        if present.table != plain:
            raise RuntimeError(
                f"the SGLang reference already follows {present.table['release']} in another table; "
                "call sglang_reference.uninstall() first"
            )
        return
    if "sglang" in sys.modules:
        raise RuntimeError(
            "sglang is already imported in this process, and the reference cannot replace it; "
            "call sglang_reference.install() before anything imports sglang"
        )
    _check(plain)
    sys.meta_path[:0] = [_Finder(plain, server_arguments), Distributions(plain["release"])]


def uninstall() -> None:
    """Remove the reference and every ``sglang`` module that it loaded; does nothing where it is not installed."""
    present = _installed()
    if present is None:
        return
    sys.meta_path[:] = [f for f in sys.meta_path if f is not present and not isinstance(f, Distributions)]
    for name in [n for n in sys.modules if _is_sglang(n)]:
        del sys.modules[name]


def precompile() -> None:
    """Compile the reference's files now, for this process and those that it forks; loads none of them."""
    for file in sorted(_FOLDER.rglob("*.py")):
        _compiled(str(file))


def _installed() -> _Finder | None:
    return next((finder for finder in sys.meta_path if isinstance(finder, _Finder)), None)


def _is_sglang(name: str) -> bool:
    return name == "sglang" or name.startswith("sglang.")


def _inner(name: str) -> str:
    """A module's name as :data:`MODULES` has it, which is also its place in the reference's folder."""
    return name.removeprefix("sglang.").removeprefix("srt.")


def _check(table: Mapping[str, Any]) -> None:
    """Refuse, by name, what the table computes and the reference has no code for."""
    computed = {m["name"] for m in table["members"] if m["default"]["kind"] == "code"}
    unknown = sorted(computed - _behaviours.BEHAVIOURS.keys())
    if unknown:
        raise RuntimeError(
            f"the SGLang reference has no behaviour for {', '.join(unknown)} of SGLang {table['release']}; "
            "add one to sglang_reference/_behaviours.py"
        )
    undetected = sorted(set(table["detection"]) - _detection.DETECTORS.keys())
    if undetected:
        raise RuntimeError(
            f"the SGLang reference cannot detect {', '.join(undetected)} of SGLang {table['release']}; "
            "add a detector to sglang_reference/_detection.py"
        )


class _Finder:
    """Finds every ``sglang`` module: in the reference's folder, or not at all."""

    def __init__(self, table: Mapping[str, Any], server_arguments: Arguments = None) -> None:
        self.table = table
        self.server_arguments = server_arguments

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a covered module; None for one that SGLang does not have either.

        Raises NotCovered for a module that only the real SGLang may have.
        """
        if not _is_sglang(fullname):
            return None
        if fullname in ("sglang", "sglang.srt"):
            return self._spec(fullname, _FOLDER / "_package.py", package=True, partial=True)
        if fullname == "sglang.version":
            return self._spec(fullname, _FOLDER / "_version.py", package=False, partial=False)
        inner = _inner(fullname)
        parent, _, last = fullname.rpartition(".")
        # The whole of these two packages is known: a name that is not in them is not in SGLang.
        closed = parent in (_PLATFORMS, _PLUGINS)
        built_in = parent == _PLATFORMS and last in _detection.DETECTORS
        if built_in and last not in self.table["detection"]:
            return None
        module = MODULES.get(inner)
        if module and not (self._follows(module.first) and not (module.gone and self._follows(module.gone))):
            return None
        if module is None or not self._follows(module.covered):
            if closed and not built_in:
                return None
            raise not_covered(fullname)
        file = _FOLDER.joinpath(*inner.split("."))
        if file.is_dir():
            return self._spec(fullname, file / "__init__.py", package=True, partial=module.partial)
        return self._spec(fullname, file.with_suffix(".py"), package=False, partial=module.partial)

    def _follows(self, release: str) -> bool:
        """Whether the table's release is this one or a later one; every release is, where none is named."""
        return not release or within(self.table["release"], release)

    def _spec(self, name: str, file: Path, *, package: bool, partial: bool) -> ModuleSpec | None:
        given: dict[str, Any] = {}
        if name in ("sglang", "sglang.version"):
            given["__version__"] = self.table["release"]
        if name == "sglang.srt._contract":
            given["TABLE"] = self.table
            given["SERVER_ARGUMENTS"] = self.server_arguments
        if partial:
            given["__getattr__"] = _refusing_getattr(name)
        spec = spec_from_file_location(name, file, loader=_Loader(name, str(file), given))
        if spec is not None:
            # An empty search path: what lies in the reference's folder is reached through this finder or not at all.
            spec.submodule_search_locations = [] if package else None
        return spec


class _Loader(SourceFileLoader):
    """Runs a file of the reference under SGLang's name, with ``given`` already in the module."""

    def __init__(self, name: str, file: str, given: Mapping[str, Any]) -> None:
        super().__init__(name, file)
        self._given = given

    def get_code(self, fullname: str) -> CodeType | None:
        """The code of the file, compiled once a process."""
        return _compiled(self.path)

    def exec_module(self, module: ModuleType) -> None:
        """Put the given values in, then run the file."""
        vars(module).update(self._given)
        super().exec_module(module)


@functools.cache
def _compiled(file: str) -> CodeType | None:
    return SourceFileLoader("sglang_reference", file).get_code("sglang_reference")


def _refusing_getattr(module: str) -> Callable[[str], Any]:
    """A module ``__getattr__`` that tells a name SGLang may well have from one that is merely absent."""

    def __getattr__(name: str) -> Any:  # noqa: N807
        inner = _inner(f"{module}.{name}")
        lacks = name in vars(sys.modules[module]).get("_ABSENT", ())  # this release of SGLang does not have it either
        if lacks or name.startswith("__") or name in ("srt", "version") or inner in MODULES:
            raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)
        raise not_covered(f"{module}.{name}")

    return __getattr__
