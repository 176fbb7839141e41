"""Classes and functions that the platform hands out, and that SGLang makes and calls with arguments of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from packaging.version import Version

from ..finding import Finding, Severity
from ..reading.classes import lineage
from ..reading.fits import Parameters, misfit
from ..reading.host import arguments
from ..reading.seen import Returned, Seen
from ..reading.values import Bound, Class, Const, Func, Instance, Value, alternatives
from .made import ASKED, FUNCTIONS, MADE, POOL_OF, POOLS, POOLS_GIVEN, POOLS_MADE, Made

_HIDING = frozenset({"__getattr__", "__getattribute__", "__new__", "__setattr__"})
_DYNAMIC = frozenset({"setattr", "vars", "__dict__"})


def find(seen: Seen) -> Iterator[Finding]:
    """Each class or function of the plugin that a member gives, and that SGLang cannot use as it does."""
    for returned in seen.returned:
        member, kind = returned.member, returned.kind
        pool = kind in POOL_OF or member in POOLS_MADE
        for each in alternatives(returned.value) if pool or member in MADE else ():
            yield from _kind(seen, returned, each)
            if kind in POOL_OF:
                yield from _pool(seen, member, kind, each)
            else:
                yield from _made(seen, member, each)
                yield from _offers(seen, member, each)


def _kind(seen: Seen, returned: Returned, value: Value) -> Iterator[Finding]:
    """What is handed out is a class, not a path to one and not an object of one."""
    text = isinstance(value, Const) and isinstance(value.value, str)
    if not text and not isinstance(value, Instance):
        return
    member = returned.member
    found = seen.release.contract.member(member)
    site = f"; core uses it at {found.calls[0]}" if found is not None and found.calls else ""
    yield Finding(
        "factory",
        Severity.BREAKS,
        member,
        f"{member} gives {'a text' if text else 'an object'}, where SGLang takes a {_thing(member)}",
        seen.place(returned.function),
        f"SGLang calls what it is given{site}",
        f"import the {_thing(member)} in the method, and return it as it is",
    )


def _thing(member: str) -> str:
    return "function" if member in FUNCTIONS else "class"


def _made(seen: Seen, member: str, value: Value) -> Iterator[Finding]:
    taken = _parameters(seen, value)
    if taken is None:
        return
    parameters, line = taken
    for made in MADE.get(member) or (Made(POOLS_MADE[member]),):
        why = misfit(made.given, parameters)
        if not why or not _holds(seen, made.since):
            continue
        yield Finding(
            "factory",
            Severity.BREAKS if made.sure else Severity.MAY_BREAK,
            f"{member}({', '.join(made.given.keywords)})",
            f"what {member} gives is not made as SGLang makes it",
            seen.place(line),
            f"SGLang gives it {made.given}: {why}",
            "take these arguments, or *args and **kwargs",
        )
        return


def _holds(seen: Seen, since: str, until: str = "") -> bool:
    release = Version(seen.release.name)
    return (not since or release >= Version(since)) and (not until or release < Version(until))


def _offers(seen: Seen, member: str, value: Value) -> Iterator[Finding]:
    """What is made has the members that core asks it for. Of a class with bases elsewhere that cannot be told."""
    if not isinstance(value, Class):
        return
    steps = lineage(value, seen.release)
    own = [step for step in steps.steps if isinstance(step, Class)]
    if steps.open or len(own) != len(steps.steps) or any(_hides(step) for step in own):
        return
    has = {name for step in own for name in (*step.names, *step.instance)}
    asked = [a for a in ASKED.get(member, ()) if _holds(seen, a.since, a.until)]
    lacking = [name for each in asked for name in each.names if name not in has]
    if lacking:
        yield Finding(
            "factory",
            Severity.BREAKS,
            f"{member}: {', '.join(lacking)}",
            f"what {member} gives has no {', '.join(lacking)}",
            seen.place(value),
            f"SGLang {seen.release.name} asks the object that it has made for it",
            f"define {', '.join(lacking)}",
        )


def _hides(of: Class) -> bool:
    """Whether objects of a class may have what its text does not show."""
    used = {n.id for n in ast.walk(of.node) if isinstance(n, ast.Name)}
    used |= {n.attr for n in ast.walk(of.node) if isinstance(n, ast.Attribute)}
    given = bool(of.node.keywords or of.node.decorator_list)
    return given or not _HIDING.isdisjoint(of.names) or not _DYNAMIC.isdisjoint(used)


def _parameters(seen: Seen, value: Value) -> tuple[Parameters, Func] | None:
    """What making an object of a class, or calling a function, takes; None where that cannot be told."""
    if isinstance(value, (Func, Bound)):
        function = value.function if isinstance(value, Bound) else value
        bound = 1 if isinstance(value, Bound) and "staticmethod" not in function.marks else 0
        return None if function.opaque else (Parameters.of(function.node.args, bound=bound), function)
    if not isinstance(value, Class):
        return None
    init = _init(seen, value)
    return None if init is None else (Parameters.of(init.node.args, bound=1), init)


def _init(seen: Seen, of: Class) -> Func | None:
    """The plugin's own ``__init__`` of a class; None where it has another's, or ``__new__`` takes the arguments."""
    steps = lineage(of, seen.release).steps
    if any(isinstance(step, Class) and ("__new__" in step.names or step.node.keywords) for step in steps):
        return None
    for step in steps:
        if not isinstance(step, Class):
            return None
        init = step.names.get("__init__")
        if init is not None:
            plain = isinstance(init, Func) and not init.opaque and not isinstance(init.node, ast.Lambda)
            return init if plain and isinstance(init, Func) else None
    return None


def _pool(seen: Seen, member: str, kind: str, value: Value) -> Iterator[Finding]:
    """A pool derives from SGLang's own of its kind, and is made with what that is made with."""
    own = seen.release.find(POOLS + POOL_OF[kind])
    if not isinstance(value, Class) or own is None or own.symbol is None:
        return
    steps = lineage(value, seen.release)
    if not steps.open and not steps.derives(own.path):
        yield Finding(
            "factory",
            Severity.BREAKS,
            f"{member}({kind})",
            f"the pool {value.name} of {member} is none of SGLang's kind {kind!r}",
            seen.place(value),
            f"SGLang raises TypeError for a class that does not derive from {own.path}",
            f"derive it from {POOL_OF[kind]}, or give None for this kind",
        )
    init, old = _init(seen, value), arguments(own.symbol.signature)
    if init is None or old is None:
        return
    taken, wanted = Parameters.of(init.node.args, bound=1), Parameters.of(old, bound=1)
    # The first, the size, is given by place in some of the calls.
    required = [*wanted.positional[1 : wanted.required], *(name for name, needed in wanted.keyword if needed)]
    required += [name for name in POOLS_GIVEN[kind] if name in wanted.names and name not in required]
    lacking = [name for name in required if not taken.takes(name)]
    if lacking:
        yield Finding(
            "factory",
            Severity.BREAKS,
            f"{member}({kind})",
            f"the pool {value.name} of {member} is not made as SGLang's own is",
            seen.place(init),
            f"SGLang makes it as {own.path}, and gives {', '.join(lacking)}: it does not take that",
            "take what SGLang's pool takes, or **kwargs, and hand it on",
        )
