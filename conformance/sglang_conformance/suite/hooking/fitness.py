"""Whether the vendor's hooks fit their targets, are in effect, and do nothing beside.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
import itertools
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...probes.settings import DEFAULTS
from .. import expect
from . import indexed
from .plugin import (
    Found,
    Missing,
    Registration,
    chain,
    held,
    locate,
    located,
    refusal,
    replacements,
    signature,
)
from .recursion import self_call
from .releases import of_another_release

_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
Arguments = tuple[tuple[str, ...], tuple[str, ...]]
"""A call's shape: how many are given by position (by their names), and which by name."""


def need_targets(registered: Sequence[Registration], *, cause: str, release: str = "") -> str:
    """Every target exists and takes such a hook, but for those that another release has.

    ``release``: that of an installed SGLang; its text tells of targets whose modules do not import here, and which they
    are is returned. NotCovered for those that cannot be known, once all others are right.
    """
    replaced, unknown, told = replacements(registered), list[str](), list[str]()
    for registration in registered:
        try:
            wrong = refusal(registration, locate(registration.target, replaced).original)
        except Missing as missing:
            wrong = "" if of_another_release(registration, registered) else str(missing)
        except expect.NotCovered as uncovered:
            try:
                found = indexed.known(registration.target, release) if release else None
            except Missing as missing:
                wrong = "" if of_another_release(registration, registered) else str(missing)
            else:
                (told if found else unknown).append(f"{registration.target} ({uncovered})")
                wrong = refusal(registration, found.original) if found else ""
        expect.that(
            not wrong,
            expected=f"{registration.target} takes a {registration.kind} hook",
            seen=wrong,
            call=str(registration),
            where=registration.where,
            cause=cause,
        )
    if unknown:
        raise expect.NotCovered(f"hook targets that could not be judged: {'; '.join(dict.fromkeys(unknown))}")
    return f"targets told from SGLang's text alone: {'; '.join(dict.fromkeys(told))}" if told else ""


def need_effect(registered: Sequence[Registration]) -> None:
    """Every hook whose target is right stands in what its target is now."""
    from sglang.srt.plugins.hook_registry import HookRegistry

    for registration, found in located(registered):
        if registration in _superseded(registered):
            continue
        links = chain(found)
        if any(link is registration.hook or any(h is registration.hook for h in held(link)) for link in links):
            continue
        late = registration.target not in HookRegistry._patched
        expect.fail(
            expected="the hook is in effect",
            seen="never applied" if late else "the target without it",
            call=f"{registration}, once load_plugins() is done and the platform resolved",
            where=registration.where,
            cause="it was registered when the hooks had been applied already: register in the hook plugin's function"
            if late
            else "something set the attribute again after the hooks were applied, or the hook came after them",
        )


def _superseded(registered: Sequence[Registration]) -> tuple[Registration, ...]:
    """The REPLACE hooks that a later replacing class has taken the place of."""
    last = {r.target: n for n, r in enumerate(registered) if r.kind == "REPLACE" and isinstance(r.hook, type)}
    return tuple(r for n, r in enumerate(registered) if r.kind == "REPLACE" and n < last.get(r.target, 0))


def need_fit(registered: Sequence[Registration], *, least: bool, release: str = "") -> None:
    """The hook's signature takes the target's calls.

    ``least``: some way to give what the target requires and no more. Otherwise: every way to call it. ``release``: that
    of an installed SGLang; its text tells of targets whose modules do not import here.
    """
    for registration, found in (*located(registered), *_told(registered, release)):
        target, hook = signature(found.original), signature(registration.hook)
        if target is None or hook is None:
            continue
        lead = int(registration.kind in ("AFTER", "AROUND"))
        forms = tuple(dict.fromkeys(_forms(target, found, least=least)))
        misfits = [(form, wrong) for form in forms if (wrong := _misfit(hook, form, lead))]
        if misfits and (not least or len(misfits) == len(forms)):
            (positional, named), wrong = misfits[0]
            given = ", ".join((*positional, *(f"{name}=..." for name in named)))
            expect.fail(
                expected=f"a hook that takes the call {found.name}({given})",
                seen=f"{getattr(registration.hook, '__name__', 'the hook')}{hook}: {wrong}",
                call=str(registration),
                where=registration.where,
                cause=f"the target is {found.name}{target}"
                + ("; the hook is given the original's result first" if registration.kind == "AFTER" else "")
                + ("; the hook is given the original first" if registration.kind == "AROUND" else ""),
            )


def _told(registered: Sequence[Registration], release: str) -> Iterator[tuple[Registration, Found]]:
    """Those functions and methods whose modules do not import here, as the release's text has them."""
    replaced = replacements(registered)
    for registration in registered if release else ():
        try:
            locate(registration.target, replaced)
        except expect.NotCovered:
            try:
                found = indexed.known(registration.target, release)
            except Missing:
                continue
            if found is not None and inspect.isfunction(found.original):
                yield registration, found
        except Missing:
            continue


def _forms(target: inspect.Signature, found: Found, *, least: bool) -> Iterator[Arguments]:
    """Ways to call the target: all by position, all by name; with what it requires, and unless ``least`` with all."""
    for needed in (True,) if least else (True, False):
        wanted = [p for p in target.parameters.values() if p.default is p.empty or not needed]
        only_name = tuple(p.name for p in wanted if p.kind is p.KEYWORD_ONLY)
        positional = [p for p in wanted if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        yield tuple(p.name for p in positional), only_name
        fixed = int(found.takes_self)
        fixed = max([fixed, *(n for n, p in enumerate(positional, 1) if p.kind is p.POSITIONAL_ONLY)])
        yield tuple(p.name for p in positional[:fixed]), (*(p.name for p in positional[fixed:]), *only_name)


def _misfit(hook: inspect.Signature, form: Arguments, lead: int) -> str:
    positional, named = form
    try:
        hook.bind(*itertools.repeat(None, lead + len(positional)), **dict.fromkeys(named))
    except TypeError as error:
        return str(error)
    return ""


def need_likeness(registered: Sequence[Registration]) -> None:
    """A class that replaces another is a subclass of it, or has all of its public members."""
    for registration, found in located(registered):
        hook, original = registration.hook, found.original
        if not (isinstance(hook, type) and isinstance(original, type)) or issubclass(hook, original):
            continue
        lacking = [name for name in dir(original) if not name.startswith("_") and not hasattr(hook, name)]
        expect.that(
            not lacking,
            expected=f"a subclass of {original.__name__}, or a class with all of its public members",
            seen=f"{hook.__name__} without {', '.join(lacking)}",
            call=str(registration),
            where=registration.where,
            cause="instances that exist already, and subclasses of the original, are none of the replacing class",
        )


def need_way_out(registered: Sequence[Registration]) -> None:
    """Once hooks are applied, none calls itself by the name that it took."""
    from sglang.srt.plugins.hook_registry import HookRegistry

    originals = [(registration, found.original) for registration, found in located(registered)]
    HookRegistry.apply_hooks()
    for registration, original in originals:
        call, where = self_call(registration, original)
        expect.that(
            not call,
            expected="a call of the original",
            seen=f"{call} is a call of the hook itself, for ever",
            call=str(registration),
            where=where,
            cause="SGLang rebinds the imported name in this module too; "
            "use super() in a class, and an AROUND hook for a function",
        )


def need_single(registered: Sequence[Registration]) -> None:
    """No hook is registered twice on one target."""
    for one, other in itertools.combinations(registered, 2):
        twice = (one.target, one.kind) == (other.target, other.kind) and _same(one.hook, other.hook)
        expect.that(
            not twice,
            expected="each hook registered once",
            seen=f"{one}, twice",
            call="load_plugins()",
            where=one.where,
            cause="its effect comes twice; registration runs twice, by two entry points or by a decorator and a call",
        )


def _same(one: Any, other: Any) -> bool:
    """Whether two hooks are one, or two makes of one function that hold the same."""
    if not (isinstance(one, types.FunctionType) and isinstance(other, types.FunctionType)):
        return _equal(one, other)
    if one.__code__ != other.__code__:
        return False
    mine, theirs = ([*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values(), *held(f)] for f in (one, other))
    return len(mine) == len(theirs) and all(map(_equal, mine, theirs))


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are surely one: arrays and tensors compare in ways of their own."""
    try:
        return one is other or (one == other) is True
    except Exception:
        return False


def need_no_trace(changes: Mapping[str, Any], *, call: str) -> None:
    """Registering hooks left environment, functions and classes, torch, signals and working folder as they were."""
    environment = [f"{name}={pair[1]!r}" for name, pair in changes["environment"].items() if _is_steering(name)]
    stubs = [name for name in changes["stubs"] if name.partition(".")[0] == "sglang"]
    folder = [changes["folder"]] if changes["folder"] else []
    defaults = [f"{name}: {after}" for name, (_, after) in changes["settings"].items() if name in DEFAULTS]
    for what, seen in (
        ("environment variables that steer SGLang", environment),
        ("functions and classes of SGLang (but through the registry), torch and Python", list(changes["patches"])),
        ("modules of SGLang", stubs),
        ("torch's defaults", defaults),
        ("devices, none of them started", list(changes["devices"])),
        ("signal handlers", list(changes["signals"])),
        ("the working folder", folder),
    ):
        expect.that(not seen, expected=f"unchanged: {what}", seen=", ".join(seen), call=call)


def _is_steering(name: str) -> bool:
    return name.startswith("SGLANG_") or name in _RANKS
