"""Names of a platform class that SGLang does not read: gone, hidden by a default, or never known."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from ..finding import Finding, Severity
from ..reading.classes import Lineage, lookup
from ..reading.history import History
from ..reading.seen import Seen
from ..reading.values import Class, Func
from .superseded import SUCCESSORS

_ALIKE = 0.8
_LEAVE = "leave it out, or keep it for older releases only"


def find(seen: Seen) -> Iterator[Finding]:
    """Each name in the bodies of the platform's own classes that this release does not read."""
    for lineage in seen.lineages:
        told = set()
        for step in lineage.steps:
            for name, value in step.names.items() if isinstance(step, Class) else ():
                if name.startswith("_") or name in told or not isinstance(step, Class):
                    continue
                told.add(name)
                line = value if isinstance(value, Func) and value.module == step.module else step
                yield from _judged(seen, lineage, name, line)


def _judged(seen: Seen, lineage: Lineage, name: str, line: Class | Func) -> Iterator[Finding]:
    contract, history = seen.release.contract, seen.history
    if contract.has(name):
        yield from _hidden(seen, lineage, name, line)
    elif name in history.members:
        if _earlier(history, name, contract.release):
            yield from _gone(seen, lineage, name, line)
    elif not _is_read(seen, lineage, name):
        yield _never_known(seen, name, line)


def _hidden(seen: Seen, lineage: Lineage, name: str, line: Class | Func) -> Iterator[Finding]:
    found = lookup(lineage, name, seen.release)
    if found is None or isinstance(found.owner, Class) or not _calls(seen.history, seen.release.name, name):
        return
    base = found.owner.rpartition(".")[2]
    yield Finding(
        "hidden",
        Severity.SILENT,
        name,
        f"{name} is never reached: {base} stands before the class that overrides it",
        seen.place(line),
        f"{base} has {name} in its own body, and comes first in the order of the bases",
        f"write the class that overrides it before {base}, and derive it from DeviceMixin",
    )


def _earlier(history: History, name: str, release: str) -> list[str]:
    """The releases before this one that have the member."""
    earlier = history.names[: history.names.index(release)]
    return [each for each in earlier if history.contracts[each].has(name)]


def _gone(seen: Seen, lineage: Lineage, name: str, line: Class | Func) -> Iterator[Finding]:
    contract = seen.release.contract
    successor = SUCCESSORS.get(name)
    provided = {n for step in lineage.steps if isinstance(step, Class) for n in (*step.names, *step.instance)}
    if successor is not None and provided.intersection(successor.names):
        return
    mend = successor.mend if successor is not None else _LEAVE
    if name in contract.legacy_kv_pool_hooks.values():
        yield Finding(
            "superseded",
            Severity.DEPRECATED,
            name,
            f"{name} is superseded",
            seen.place(line),
            f"SGLang {contract.release} still calls it, with a warning that it will go",
            mend,
        )
        return
    read = [r for r in _earlier(seen.history, name, contract.release) if _calls(seen.history, r, name)]
    declined = successor is not None and successor.declines and _says_no(line)
    if not read or declined:
        yield Finding(
            "superseded",
            Severity.DEPRECATED,
            name,
            f"{name} is gone from SGLang's platform",
            seen.place(line),
            "its answer, False, is the default now" if declined else "core never asked for it: nothing is lost",
            _LEAVE,
        )
        return
    yield Finding(
        "unread",
        Severity.SILENT,
        name,
        f"{name} is no longer read",
        seen.place(line),
        f"core asked for it up to {read[-1]}; {contract.release} has no such member",
        mend,
    )


def _says_no(line: Class | Func) -> bool:
    """Whether a method only ever returns False."""
    returned = [node.value for node in ast.walk(line.node) if isinstance(node, ast.Return)]
    said = [node.value for node in returned if isinstance(node, ast.Constant)]
    return isinstance(line, Func) and bool(returned) and said == [False] * len(returned)


def _calls(history: History, release: str, name: str) -> bool:
    member = history.contracts[release].member(name)
    return member is not None and bool(member.calls)


def _is_read(seen: Seen, lineage: Lineage, name: str) -> bool:
    """Whether a name that the contract lacks is somebody's: the plugin's own, or that of another base."""
    if lineage.open or name in seen.code.mentioned:
        return True
    found = lookup(lineage, name, seen.release)
    if found is not None and not isinstance(found.owner, Class):
        return True
    return any(
        seen.release.index.symbols.get(f"{step}.{name}") is not None for step in lineage.steps if isinstance(step, str)
    )


def _never_known(seen: Seen, name: str, line: Class | Func) -> Finding:
    known = [member.name for member in seen.release.contract.members]
    alike = difflib.get_close_matches(name, known, 1, _ALIKE)
    return Finding(
        "unread",
        Severity.SILENT,
        name,
        f"{name} is read by no release of SGLang",
        seen.place(line),
        "neither SGLang's platform nor the plugin itself knows this name",
        f"perhaps {alike[0]} is meant" if alike else "leave it out, or hook what it was meant for",
    )
