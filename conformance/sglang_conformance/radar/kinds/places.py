"""Where something of SGLang's was, and where it is likely to be now."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ...contract.index import inside
from ..reading.host import Release
from ..reading.outside import ending
from ..reading.seen import Seen

_ALIKE = 0.85
_CALLABLE = {"function": "function", "method": "function", "classmethod": "function", "staticmethod": "function"}


def history(seen: Seen, path: str) -> str:
    """Which releases have a dotted path."""
    last = seen.history.last_with(path, seen.release.name)
    if last:
        return f"SGLang had it up to {last}"
    first = seen.history.first_with(path)
    return f"SGLang has it from {first} on" if first else "no bundled release of SGLang has it"


def instead(seen: Seen, path: str, names: Sequence[str] = ()) -> str:
    """The likely new place of what is gone, or of some names in it, as a sentence; empty where none can be told."""
    if seen.brief:
        return ""
    moved = {name: likely(seen, f"{path}.{name}") for name in names}
    told = [f"{name} is likely {there} now" for name, there in moved.items() if there]
    if told:
        return "; ".join(told)
    there = likely(seen, path)
    return f"it is likely {there} now" if there else ""


def likely(seen: Seen, path: str) -> str:
    """The one place in this release that has the same last name, and was not there while the old one was.

    Of several, the one whose module or class has the same name as well.
    """
    before = seen.history.last_with(path, seen.release.name)
    if not before or not inside(path):
        return ""
    old = seen.history.release(before)
    was = old.find(path)
    if was is None or was.symbol is None:
        return ""
    if was.path != path and seen.release.find(was.path) is not None:
        return was.path  # it was only imported there
    kind = _kind(was.symbol.kind)
    parent, _, name = path.rpartition(".")
    of_class = parent.rpartition(".")[2] if was.symbol.kind not in ("function", "class", "module", "name") else ""
    found = []
    for there in ending(seen.release.index, name):
        symbol = seen.release.index.symbols[there]
        if symbol.kind == "name":
            continue
        same_class = not of_class or there.rpartition(".")[0].rpartition(".")[2] == of_class
        if _kind(symbol.kind) == kind and same_class and old.find(there) is None:
            found.append(there)
    if len(found) > 1:
        found = [there for there in found if there.split(".")[-2] == path.split(".")[-2]]
    return found[0] if len(found) == 1 else _renamed(seen, parent, name, old)


def _renamed(seen: Seen, parent: str, name: str, old: Release) -> str:
    """What came beside the old place and has nearly the same name, as with the nsa that became dsa."""
    beside = seen.release.index.members(parent)
    came = {there.rpartition(".")[2]: there for there in beside if old.find(there) is None}
    alike = difflib.get_close_matches(name, came, 2, _ALIKE)
    return came[alike[0]] if len(alike) == 1 else ""


def _kind(kind: str) -> str:
    return _CALLABLE.get(kind, kind)
