"""Hooks whose target is not there, or does not take them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from ...contract.index import Symbol, inside
from ..finding import Finding, Severity
from ..reading.classes import lineage
from ..reading.facts import Registration
from ..reading.fits import Parameters, stands_in
from ..reading.host import arguments
from ..reading.seen import Seen
from ..reading.values import Bound, Class, Func, Value, alternatives
from . import places

_LOGGED = "SGLang logs that the hook could not be applied, and goes on without it"
_FUNCTIONS = frozenset({"function", "method", "classmethod", "staticmethod"})
# What a hook gets before the call's own arguments (0.5.11 and 0.5.23, srt/plugins/hook_registry.py).
_FIRST = {"BEFORE": 0, "AFTER": 1, "AROUND": 1, "REPLACE": 0}


def find(seen: Seen) -> Iterator[Finding]:
    """Each registered hook that this release does not apply, or that fails when it is called."""
    for registration in seen.facts.registrations:
        if registration.target is None or not registration.target.startswith("sglang."):
            continue
        found = seen.release.find(registration.target)
        if found is None:
            if not seen.facts.shimmed(registration.target) and _is_missed(seen, registration.target):
                yield _gone(seen, registration, registration.target)
        elif found.symbol is not None:
            for hook in alternatives(registration.hook):
                yield from _judged(seen, registration, registration.target, found.symbol, hook)


def _is_missed(seen: Seen, target: str) -> bool:
    """Whether a target that is not there is blamed: a member of a class with bases elsewhere where a release had it."""
    index, owner = seen.release.index, seen.release.find(target.rpartition(".")[0])
    of_sglang = owner is not None and all(inside(base) for base in index.lineage(owner.path))
    return of_sglang or index.resolve(target) is None or seen.history.elsewhere(target)


def not_judged(seen: Seen) -> Iterator[str]:
    """A line for each registration whose target reading cannot tell in any of its calls."""
    told = {id(r.node) for r in seen.facts.registrations if r.target is not None}
    for place in dict.fromkeys(
        r.place for r in seen.facts.registrations if r.target is None and id(r.node) not in told
    ):
        yield f"{place}: the target of this hook is computed"


def _gone(seen: Seen, registration: Registration, target: str) -> Finding:
    mend = places.instead(seen, target) or "hook what does its work now, or leave the hook out"
    return Finding(
        "hook target",
        Severity.SILENT,
        target,
        f"hooks {target}, which is not there",
        registration.place,
        f"{places.history(seen, target)}; {_LOGGED}",
        mend,
    )


def _judged(seen: Seen, registration: Registration, target: str, symbol: Symbol, hook: Value) -> Iterator[Finding]:
    is_class = isinstance(hook, Class)
    kind = registration.type
    made = Finding("hook kind", Severity.SILENT, target, "", registration.place, "", "")
    if is_class and kind not in (None, "REPLACE"):
        yield replace(
            made,
            what=f"registers a class as {kind} hook on {target}",
            why="a class is only taken as REPLACE: registering it raises TypeError, and the rest of the hooks is lost",
            mend="register it as REPLACE, or a function",
        )
    elif symbol.kind == "class" and kind not in (None, "REPLACE"):
        yield replace(
            made,
            what=f"hooks the class {target} as {kind}",
            why=f"a class is only taken as REPLACE; {_LOGGED}",
            mend=f"hook {target}.__init__, or another of its methods",
        )
    elif symbol.kind == "class" and isinstance(hook, (Func, Bound)):
        yield replace(
            made,
            severity=Severity.BREAKS,
            what=f"replaces the class {target} by a function",
            why="what derives from the class, or asks isinstance, raises TypeError",
            mend="replace it by a class that derives from it",
        )
    elif symbol.kind in _FUNCTIONS and is_class:
        yield replace(
            made,
            severity=Severity.MAY_BREAK,
            what=f"replaces {target}, which is a {symbol.kind}, by a class",
            why="callers get an object of that class where they expect what the function gives",
            mend="replace it by a function",
        )
    elif symbol.kind == "property":
        yield replace(
            made,
            severity=Severity.BREAKS,
            what=f"hooks {target}, which is a property",
            why="what is put in its place is a method: readers get the method, not what it gives",
            mend="hook what the property calls, or set a property on the class",
        )
    elif symbol.kind in _FUNCTIONS and kind is not None and isinstance(hook, (Func, Bound)):
        yield from _fit(seen, registration, target, symbol, hook, kind)
    elif symbol.kind == "class" and isinstance(hook, Class):
        yield from _constructor(seen, registration, target, symbol, hook)


def _fit(
    seen: Seen, registration: Registration, target: str, symbol: Symbol, hook: Func | Bound, kind: str
) -> Iterator[Finding]:
    function = hook.function if isinstance(hook, Bound) else hook
    old = arguments(symbol.signature)
    if old is None or function.opaque:
        return
    bound = 1 if isinstance(hook, Bound) and "staticmethod" not in function.marks else 0
    taken = Parameters.of(function.node.args, bound=bound)
    first = _FIRST[kind]
    if first > len(taken.positional) and not taken.rest:
        always, sometimes = f"it takes nothing, and a hook of this kind gets {_first(kind)} first", ""
    else:
        always, sometimes = stands_in(taken.dropped(first), Parameters.of(old))
        sometimes = (
            f"{sometimes}, and callers may give it"
            if sometimes
            else _renamed(seen, target, taken.dropped(first), Parameters.of(old))
        )
    if not always and not sometimes:
        return
    severity = Severity.BREAKS if always and registration.reach.sure else Severity.MAY_BREAK
    after = f" after {_first(kind)}" if first else ""
    yield Finding(
        "hook parameters",
        severity,
        target,
        f"the {kind} hook {function.name} on {target} does not take its arguments",
        seen.place(function),
        f"{always or sometimes}; the target has {symbol.signature}",
        f"take{after} what the target takes, or *args and **kwargs",
    )


def _renamed(seen: Seen, target: str, taken: Parameters, now: Parameters) -> str:
    """Which of the hook's names the target had in an earlier release, and has no more."""
    earlier = seen.history.names[: seen.history.names.index(seen.release.name)]
    for name in reversed(earlier):
        was = seen.history.release(name).find(target)
        before = arguments(was.symbol.signature) if was is not None and was.symbol is not None else None
        if before is not None:
            gone = [n for n in taken.positional if n in Parameters.of(before).names and n not in now.names]
            if gone:
                return f"it calls its parameters {', '.join(gone)}, as the target did up to {name}; callers may not"
    return ""


def _first(kind: str) -> str:
    return {"AFTER": "the result", "AROUND": "the original"}.get(kind, "nothing")


def _constructor(seen: Seen, registration: Registration, target: str, symbol: Symbol, hook: Class) -> Iterator[Finding]:
    """A class that replaces another is made as that was."""
    init = next((s.names.get("__init__") for s in lineage(hook, seen.release).steps[:1] if isinstance(s, Class)), None)
    old = arguments(symbol.signature)
    if old is None or not isinstance(init, Func) or init.opaque or isinstance(init.node, ast.Lambda):
        return
    always, sometimes = stands_in(Parameters.of(init.node.args, bound=1), Parameters.of(old, bound=1))
    if always or sometimes:
        yield Finding(
            "hook parameters",
            Severity.BREAKS if always else Severity.MAY_BREAK,
            target,
            f"{hook.name}, which replaces {target}, is not made as that is",
            seen.place(init),
            f"{always or f'{sometimes}, and callers may give it'}; the target has {symbol.signature}",
            "take in __init__ what the target takes, or *args and **kwargs",
        )
