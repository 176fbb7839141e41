"""The file in which the indexes of all releases lie together: what releases have in common stands there once.

It is text, compressed by xz. The first line has the form's name and the releases, oldest first. A line that begins with
``@`` opens a module; each line below is a symbol of it, by its path below the module, in one form, with the releases
that have it so: a new release is a few thousand lines, not a hundred thousand.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator, Mapping
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


def dumps(indexes: Iterable[Index]) -> bytes:
    """The file of these releases; equal indexes give equal bytes, whatever their order."""
    ordered = sorted(indexes, key=lambda index: Version(index.release))
    lines = [" ".join((_FORM, *(index.release for index in ordered))), *_lines([index.symbols for index in ordered])]
    return lzma.compress((_LINE.join(lines) + _LINE).encode(), preset=9 | lzma.PRESET_EXTREME)


@dataclass(frozen=True)
class IndexFile:
    """A file that is unpacked: the indexes of its ``releases``, oldest first, can be taken from it one by one."""

    releases: tuple[str, ...]
    lines: list[str] = field(repr=False)

    def index(self, release: str) -> Index:
        """The index of one release; raises ContractError where the file is damaged or lacks the release."""
        if release not in self.releases:
            raise ContractError(f"no index for SGLang {release}; there are: {', '.join(self.releases)}")
        try:
            return Index(release, _Symbols(dict(_of_release(self.lines, self.releases.index(release)))))
        except (ValueError, IndexError) as error:
            raise ContractError(f"the index is damaged ({error!r}); install the kit again") from error


def loads(data: bytes) -> IndexFile:
    """Unpack a file; raises ContractError where it is none, or damaged."""
    try:
        first, *lines = lzma.decompress(data).decode().removesuffix(_LINE).split(_LINE)
    except (lzma.LZMAError, ValueError) as error:
        raise ContractError(f"the index is damaged ({error!r}); install the kit again") from error
    form, *known = first.split(" ")
    if form != _FORM:
        raise ContractError(f"the index has the form {form[:40]!r}, not {_FORM!r}; install the kit again")
    return IndexFile(tuple(known), lines)


def _lines(releases: list[Mapping[str, Symbol]]) -> Iterator[str]:
    """The file's lines below the first: modules and what is below them, each form of a symbol with its releases."""
    forms: dict[str, dict[Symbol, list[int]]] = {}
    for number, symbols in enumerate(releases):
        for path, symbol in symbols.items():
            forms.setdefault(path, {}).setdefault(symbol, []).append(number)
    modules = {path for path, made in forms.items() if any(symbol.kind == "module" for symbol in made)}
    for module, below in sorted(_by_module(forms, modules).items()):
        there = sorted(number for numbers in forms[module].values() for number in numbers)
        yield f"@{module}{_TAB}{_runs(there)}"
        for path in below:
            for symbol, numbers in forms[path].items():
                yield _line(path[len(module) + 1 :], symbol, "" if numbers == there else _runs(numbers))


def _by_module(paths: Iterable[str], modules: set[str]) -> dict[str, list[str]]:
    """The paths, sorted, by the innermost module that they are in; a module is its own."""
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        holder = path
        while holder not in modules:
            holder = holder.rpartition(".")[0]
        found.setdefault(holder, []).append(path)
    return found


def _line(below: str, symbol: Symbol, runs: str) -> str:
    code = _CODES[symbol.kind] + (_OPEN if symbol.open else "")
    fields = (below, code, symbol.signature, symbol.origin or _LIST.join(symbol.bases), runs)
    return _TAB.join(field.replace(_LINE, " ").replace(_TAB, " ") for field in fields).rstrip(_TAB)


def _runs(numbers: list[int]) -> str:
    """``0-3,5`` for 0, 1, 2, 3 and 5."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return _LIST.join(f"{a}-{b}" if a != b else f"{a}" for a, b in zip(starts, ends, strict=True))


def _within(number: int, runs: str) -> bool:
    ends = (run.partition("-") for run in runs.split(_LIST))
    return any(int(first) <= number <= int(last or first) for first, _, last in ends)


def _of_release(lines: list[str], number: int) -> Iterator[tuple[str, str]]:
    """The full paths of a release's symbols, each with its line."""
    within = _Remembered(number)
    module, there = "", False
    for line in lines:
        if line.startswith("@"):
            module, _, runs = line[1:].partition(_TAB)
            there = within[runs]
            continue
        below, _, rest = line.partition(_TAB)
        runs = line.split(_TAB, 4)[4] if rest.count(_TAB) == 3 else ""
        if within[runs] if runs else there:
            yield f"{module}.{below}" if below else module, rest


class _Remembered(dict[str, bool]):
    """Whether a release is within runs, each looked at once: a few hundred stand on a hundred thousand lines."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def __missing__(self, runs: str) -> bool:
        self[runs] = _within(self.number, runs)
        return self[runs]


class _Symbols(Mapping[str, Symbol]):
    """Symbols by path, made when they are asked for: who looks a few up need not wait for a hundred thousand."""

    def __init__(self, lines: dict[str, str]) -> None:
        self.lines = lines

    def __getitem__(self, path: str) -> Symbol:
        return _symbol(self.lines[path])

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, path: object) -> bool:
        return path in self.lines


def _symbol(line: str) -> Symbol:
    code, signature, other, *_ = (*line.split(_TAB), "", "")
    kind = _KINDS[code[0]]
    bases = tuple(other.split(_LIST)) if other and kind == "class" else ()
    return Symbol(kind, signature, bases, "" if kind == "class" else other, code.endswith(_OPEN))
