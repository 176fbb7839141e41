"""The file in which the indexes of all releases lie together: what releases have in common stands there once.

It is text, compressed by xz. The first line has the form's name and the releases, oldest first. A line that begins with
``@`` opens a module; each line below is a symbol of it, by its path below the module, in one form, with the releases
that have it so: a new release is a few thousand lines, not a hundred thousand.
"""

from __future__ import annotations

import lzma
from collections.abc import Container, ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

from packaging.version import Version

from .errors import ContractError
from .index import Index, Symbol, SymbolKind

_FORM = "sglang-contract-index/1"
_TAB, _LINE, _LIST = "\t", "\n", ","
_CODES: dict[SymbolKind, str] = {kind: kind[0] for kind in get_args(SymbolKind)}
_CODES |= {"classmethod": "k", "module": "@"}
_KINDS = {code: kind for kind, code in _CODES.items()}
_OPEN = "+"


@dataclass(frozen=True)
class IndexFile:
    """A file that is unpacked: the indexes of its ``releases``, oldest first, can be taken from it one by one."""

    releases: tuple[str, ...]
    modules: list[bytes] = field(repr=False)

    def index(self, release: str) -> Index:
        """The index of one release; raises ContractError where the file lacks the release."""
        if release not in self.releases:
            raise ContractError(f"no index for SGLang {release}; there are: {', '.join(self.releases)}")
        within = _Within(self.releases.index(release))
        heads = ((module, *_head(module)) for module in self.modules)
        return Index(release, _Symbols({name: module for module, name, runs in heads if within[runs]}, within))


def loads(data: bytes) -> IndexFile:
    """Unpack a file; raises ContractError where it is none, or damaged."""
    try:
        first, *modules = lzma.decompress(data).removesuffix(b"\n").split(b"\n@")
        form, *known = first.decode().split(" ")
    except (lzma.LZMAError, ValueError) as error:
        raise ContractError(f"the index is damaged ({error!r}); install the kit again") from error
    if form != _FORM:
        raise ContractError(f"the index has the form {form[:40]!r}, not {_FORM!r}; install the kit again")
    return IndexFile(tuple(known), modules)


def dumps(indexes: Iterable[Index]) -> bytes:
    """The file of these releases; equal indexes give equal bytes, whatever their order."""
    ordered = sorted(indexes, key=lambda index: Version(index.release))
    lines = [" ".join((_FORM, *(index.release for index in ordered))), *_lines([index.symbols for index in ordered])]
    return lzma.compress((_LINE.join(lines) + _LINE).encode(), preset=6)


# ---- writing


def _lines(releases: list[Mapping[str, Symbol]]) -> Iterator[str]:
    """The file's lines below the first: modules and what is below them, each form of a symbol with its releases."""
    forms: dict[str, dict[str, list[int]]] = {}
    for number, symbols in enumerate(releases):
        for path, form in symbols.forms() if isinstance(symbols, _Symbols) else _forms(symbols):
            forms.setdefault(path, {}).setdefault(form, []).append(number)
    modules = {path for path, made in forms.items() if any(form.startswith(_CODES["module"]) for form in made)}
    for module, below in sorted(_by_module(forms, modules).items()):
        there = sorted(number for numbers in forms[module].values() for number in numbers)
        yield f"@{module}{_TAB}{_runs(there)}"
        for path in below:
            for form, numbers in forms[path].items():
                runs = "" if numbers == there else f"{_TAB * (3 - form.count(_TAB))}{_runs(numbers)}"
                yield f"{path[len(module) + 1 :]}{_TAB}{form}{runs}"


def _by_module(paths: Iterable[str], modules: set[str]) -> dict[str, list[str]]:
    """The paths, sorted, by the innermost module that they are in; a module is its own."""
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        found.setdefault(_innermost(path, modules), []).append(path)
    return found


def _innermost(path: str, modules: Container[str]) -> str:
    """The module that a path is in, or is; empty where there is none."""
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path


def _forms(symbols: Mapping[str, Symbol]) -> Iterator[tuple[str, str]]:
    """Each path with its symbol as fields: kind and whether it is open, signature, origin or bases; no empty end."""
    for path, symbol in symbols.items():
        code = _CODES[symbol.kind] + (_OPEN if symbol.open else "")
        fields = (code, symbol.signature, symbol.origin or _LIST.join(symbol.bases))
        yield path, _TAB.join(each.replace(_LINE, " ").replace(_TAB, " ") for each in fields).rstrip(_TAB)


def _runs(numbers: list[int]) -> str:
    """``0-3,5`` for 0, 1, 2, 3 and 5."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return _LIST.join(f"{a}-{b}" if a != b else f"{a}" for a, b in zip(starts, ends, strict=True))


# ---- reading


def _head(module: bytes) -> tuple[str, str]:
    """The dotted path of a module's block, and its runs."""
    name, _, runs = module.partition(b"\n")[0].decode().partition(_TAB)
    return name, runs


class _Within(dict[str, bool]):
    """Whether a release is within runs, each looked at once: a few hundred stand on two hundred thousand lines."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def __missing__(self, runs: str) -> bool:
        ends = (run.partition("-") for run in runs.split(_LIST))
        self[runs] = any(int(first) <= self.number <= int(last or first) for first, _, last in ends)
        return self[runs]


class _Symbols(Mapping[str, Symbol]):
    """Symbols by path, read when they are asked for: who looks a few up need not wait for a hundred thousand."""

    def __init__(self, modules: dict[str, bytes], within: _Within) -> None:
        self.modules = modules
        self.within = within
        self.read: dict[str, dict[str, Symbol]] = {}
        self.made: dict[str, Symbol] = {}  # by form: most symbols have one that others have, too

    def forms(self) -> Iterator[tuple[str, str]]:
        """Each path with its symbol as it stands in the file."""
        return (pair for module in self.modules for pair in self._lines(module))

    def __getitem__(self, path: str) -> Symbol:
        return self._of_module(_innermost(path, self.modules))[path]

    def __contains__(self, path: object) -> bool:
        module = _innermost(str(path), self.modules)
        return bool(module) and path in self._of_module(module)

    def __iter__(self) -> Iterator[str]:
        return (path for module in self.modules for path in self._of_module(module))

    def __len__(self) -> int:
        return sum(len(self._of_module(module)) for module in self.modules)

    def items(self) -> ItemsView[str, Symbol]:
        """The same as of any mapping, without looking each path up."""
        return {path: symbol for module in self.modules for path, symbol in self._of_module(module).items()}.items()

    def _of_module(self, module: str) -> dict[str, Symbol]:
        if module not in self.read:
            self.read[module] = {path: self._made(form) for path, form in self._lines(module)}
        return self.read[module]

    def _made(self, form: str) -> Symbol:
        if form not in self.made:
            self.made[form] = _symbol(form)
        return self.made[form]

    def _lines(self, module: str) -> Iterator[tuple[str, str]]:
        for line in self.modules[module].decode().split(_LINE)[1:]:
            below, _, form = line.partition(_TAB)
            if form.count(_TAB) == 3:
                form, _, runs = form.rpartition(_TAB)
                if not self.within[runs]:
                    continue
                form = form.rstrip(_TAB)
            yield f"{module}.{below}" if below else module, form


def _symbol(form: str) -> Symbol:
    code, signature, other, *_ = (*form.split(_TAB), "", "")
    kind = _KINDS[code[0]]
    bases = tuple(other.split(_LIST)) if other and kind == "class" else ()
    return Symbol(kind, signature, bases, "" if kind == "class" else other, code.endswith(_OPEN))
