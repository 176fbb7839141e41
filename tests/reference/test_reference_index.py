"""What the reference defines against what each release does, by the index of the release: names and parameters."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sglang_reference
from sglang_conformance.contract import tables
from sglang_conformance.contract.index import Index, Resolved
from sglang_reference import _modules
from sglang_reference._releases import within

MODULES = [name for name in _modules.MODULES if not any(part.startswith("_") for part in name.split("."))]

# What a release has in another way.
OTHERWISE = {
    "layers.moe.topk.TopKOutput.__init__": "a protocol's",
    "platforms.interface.PlatformCapabilities.__init__": "a struct's",
    "distributed.parallel_state.TensorMetadata": "made by a call",
}
# What a call makes from that release on: the index knows nothing of its members.
MADE_BY_A_CALL = {"server_args.ServerArgs": "0.5.20"}
# What no release has, or not the one.
_V2 = "distributed.device_communicators.custom_all_reduce_v2"
_NCCL = "distributed.device_communicators.pynccl_wrapper"
OURS = {
    f"{_V2}.can_use_custom_all_reduce_v2": "before 0.5.13 SGLang takes the second generation without asking",
    "distributed.device_communicators.pynccl.PyNcclCommunicator.destroy": "SGLang leaves its communicators behind",
    f"{_NCCL}.NCCLLibrary.NCCL_CHECK": "is told the call, to name it",
    f"{_NCCL}.NCCLLibrary.ncclCommAbort": "lets go of a communicator whose ranks have ended",
    f"{_NCCL}.NCCLLibrary.ncclCommGetAsyncError": "finds out that they have",
    f"{_NCCL}.Found": "a library, and who named it",
}

Shape = list[tuple[str, str, bool]]
_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def shape(function: Any) -> Shape:
    """Kind, name and whether there is a default, of each parameter; what takes all the rest has no name."""
    parameters = inspect.signature(function).parameters.values()
    return [
        (_KINDS[p.kind], "" if _KINDS[p.kind].startswith("*") else p.name, p.default is not p.empty) for p in parameters
    ]


def shape_of(signature: str) -> Shape:
    definition = ast.parse(f"def function{signature}: ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    arguments = definition.args
    ordinary = [*arguments.posonlyargs, *arguments.args]
    first_default = len(ordinary) - len(arguments.defaults)
    found = [("", each.arg, number >= first_default) for number, each in enumerate(ordinary)]
    found += [("*", "", False)] if arguments.vararg else []
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    found += [("keyword", each.arg, default is not None) for each, default in keywords]
    found += [("**", "", False)] if arguments.kwarg else []
    return found


def full(path: str) -> str:
    """The path of what is named below ``sglang.srt``, or below ``sglang`` where it stands beside it."""
    return f"sglang.{path}" if path.split(".")[0] == "kernels" else f"sglang.srt.{path}"


def defined(module: Any) -> Iterator[tuple[str, Any]]:
    """Every public function and class that a module defines itself, and the public methods of the classes.

    Without what a dataclass is made by, which is written nowhere.
    """
    for name, value in vars(module).items():
        ours = getattr(value, "__module__", None) == module.__name__
        if name.startswith("_") or not ours or not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        yield name, value
        for inner, member in vars(value).items() if inspect.isclass(value) else ():
            function = getattr(member, "__func__", member)
            made = inner == "__init__" and not dataclasses.is_dataclass(value)
            if inspect.isfunction(function) and (made or not inner.startswith("_")):
                yield f"{name}.{inner}", function


def differences(index: Index, module: str, loaded: Any) -> Iterator[str]:
    for name, value in defined(loaded):
        path = f"{module}.{name}"
        if path in OTHERWISE or path in OURS or _made_by_a_call(path, index.release):
            continue
        found = index.resolve(full(path))
        if not isinstance(found, Resolved):
            yield f"{path}: not in SGLang {index.release}"
        elif inspect.isclass(value):
            if found.symbol.kind != "class":
                yield f"{path}: no class, but a {found.symbol.kind}"
        elif found.symbol.signature and not _alike(shape(value), shape_of(found.symbol.signature)):
            yield f"{path}: {inspect.signature(value)}, but {found.symbol.signature} in SGLang {index.release}"


def _made_by_a_call(path: str, release: str) -> bool:
    return any(f"{path}.".startswith(f"{m}.") and within(release, first) for m, first in MADE_BY_A_CALL.items())


def _alike(ours: Shape, its: Shape) -> bool:
    by_position_alone = [kind for kind, _, _ in ours] == ["", "*"]  # as the calls of NCCL's library are
    return ours == its or by_position_alone


def test_excuses_are_of_names_that_there_are(install: Any, module: Callable[[str], Any]) -> None:
    install()
    for path in OTHERWISE.keys() | OURS.keys():
        name = max((each for each in MODULES if path.startswith(f"{each}.")), key=len)
        inner = path.removeprefix(f"{name}.").split(".")
        assert hasattr(module(full(name)), inner[0]), path


@pytest.mark.parametrize("release", tables.releases())
def test_names_and_parameters_are_the_releases(
    install: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")
    install(release)
    index = tables.load_index(release)
    found: list[str] = []
    looked_at = 0
    for name in MODULES:
        there = isinstance(index.resolve(full(name)), Resolved)
        try:
            loaded = module(full(name))
        except sglang_reference.NotCovered:  # the reference has it from a later release on
            continue
        except ModuleNotFoundError:
            found += [f"{name}: in SGLang {release}, but not here"] if there else []
            continue
        found += differences(index, name, loaded) if there else [f"{name}: not in SGLang {release}"]
        looked_at += 1
    assert found == []
    assert looked_at > 10
