"""Members that core uses in a way that the plugin's override does not take."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ...contract.model import CallSite, Member, Shape
from ..finding import Finding, Severity
from ..reading.classes import Lineage, lookup
from ..reading.fits import Given, Parameters, misfit
from ..reading.seen import Seen
from ..reading.values import Class, Const, Func, Seq, Table

_READ = frozenset({"property", "attribute"})


def find(seen: Seen) -> Iterator[Finding]:
    """Each override of a member whose kind or signature does not fit what core does with it."""
    for lineage in seen.lineages:
        for member in seen.release.contract.members:
            found = lookup(lineage, member.name, seen.release)
            if found is None or not isinstance(found.owner, Class):
                continue
            if isinstance(found.value, Func):
                yield from _function(seen, lineage, member, found.value)
            elif member.kind not in _READ and isinstance(found.value, (Const, Seq, Table)) and member.calls:
                yield _not_callable(seen, member, found.owner)


def _not_callable(seen: Seen, member: Member, owner: Class) -> Finding:
    line = next((n.lineno for n in owner.node.body if member.name in _targets(n)), owner.node.lineno)
    place = type(seen.place(owner))(seen.place(owner).file, line)
    return Finding(
        "kind",
        Severity.BREAKS,
        member.name,
        f"{member.name} is a value, where core calls a method",
        place,
        f"core uses it at {member.calls[0]}",
        f"define it as a method: def {member.name}{member.signature}",
    )


def _targets(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _function(seen: Seen, lineage: Lineage, member: Member, function: Func) -> Iterator[Finding]:
    is_property = "property" in function.marks
    if isinstance(function.node, ast.Lambda) or function.opaque:
        return
    if member.kind in _READ:
        if not is_property:
            yield _not_readable(seen, member, function)
    elif is_property:
        if member.calls:
            yield Finding(
                "kind",
                Severity.BREAKS,
                member.name,
                f"{member.name} is a property, where core calls a method",
                seen.place(function),
                f"core uses it at {member.calls[0]}",
                f"define it as a method: def {member.name}{member.signature}",
            )
    else:
        yield from _awaited(seen, member, function)
        yield from _context(seen, member, function)
        yield from _returned(seen, member, function)
        yield from _signature(seen, member, function)


def _not_readable(seen: Seen, member: Member, function: Func) -> Finding:
    # A method is true, and equals nothing: only what reads a field of it is an error.
    severity = Severity.BREAKS if member.name == "capabilities" else Severity.SILENT
    return Finding(
        "kind",
        severity,
        member.name,
        f"{member.name} is a method, where SGLang reads a value",
        seen.place(function),
        f"{member.owner}.{member.name} is {'an attribute' if member.kind == 'attribute' else 'a property'}",
        f"make {member.name} a class attribute, or a property",
    )


def _awaited(seen: Seen, member: Member, function: Func) -> Iterator[Finding]:
    """What core calls it does not await."""
    if member.calls and isinstance(function.node, ast.AsyncFunctionDef):
        nothing = member.signature.endswith("-> None")
        lost = "so nothing of it is run" if nothing else "and takes the coroutine for the answer"
        yield Finding(
            "kind",
            Severity.SILENT if nothing else Severity.BREAKS,
            member.name,
            f"{member.name} is async, where core calls a plain method",
            seen.place(function),
            f"core does not await it, {lost}; core uses it at {member.calls[0]}",
            f"define it without async: def {member.name}{member.signature}",
        )


def _context(seen: Seen, member: Member, function: Func) -> Iterator[Finding]:
    """A generator is no context manager without its decorator."""
    decorators = {ast.unparse(d).rpartition(".")[2] for d in function.node.decorator_list}  # type: ignore[union-attr]
    yields = any(isinstance(node, ast.Yield) for node in ast.walk(function.node))
    if member.kind == "contextmanager" and member.calls and yields and "contextmanager" not in decorators:
        yield Finding(
            "kind",
            Severity.BREAKS,
            member.name,
            f"{member.name} is a generator, where core enters a context",
            seen.place(function),
            f"core uses it at {member.calls[0]}",
            "decorate it with contextlib.contextmanager",
        )


# What core does with a text it cannot do with these, and the other way round.
_APART = frozenset({"str", "torch.device", "type", "bool", "list"})


def _returned(seen: Seen, member: Member, function: Func) -> Iterator[Finding]:
    """What an override says that it returns is not what the member returns in this release."""
    said = function.node.returns  # type: ignore[union-attr]
    wanted = member.signature.rpartition("-> ")[2]
    gives = ast.unparse(said).strip("\"'") if said is not None else _made(function)
    if member.calls and gives != wanted and {gives, wanted} <= _APART:
        yield Finding(
            "kind",
            Severity.MAY_BREAK,
            member.name,
            f"{member.name} returns {gives}, where SGLang takes {wanted}",
            seen.place(function),
            f"{member.owner}.{member.name} returns {wanted} in this release; core uses it at {member.calls[0]}",
            f"return {wanted}: def {member.name}{member.signature}",
        )


def _made(function: Func) -> str:
    """What all its returns make, where that is a device of torch's; else empty."""
    values = [node.value for node in ast.walk(function.node) if isinstance(node, ast.Return)]
    made = {ast.unparse(value.func) if isinstance(value, ast.Call) else "" for value in values}
    return "torch.device" if made == {"torch.device"} else ""


def _signature(seen: Seen, member: Member, function: Func) -> Iterator[Finding]:
    bound = 0 if "staticmethod" in function.marks else 1
    taken = Parameters.of(function.node.args, bound=bound)
    wrong: list[tuple[CallSite, Shape, str]] = []
    for site in member.calls:
        why = misfit(_given(site.call), taken) if site.call is not None else ""
        if site.call is not None and why:
            wrong.append((site, site.call, why))
    if wrong:
        site, shape, why = wrong[0]
        more = (
            f" and {len(wrong) - 1} other places" if len(wrong) > 2 else " and another place" if len(wrong) == 2 else ""
        )
        yield Finding(
            "signature",
            Severity.BREAKS,
            member.name,
            f"{member.name} does not take the call that core makes",
            seen.place(function),
            f"core calls it as {member.name}{shape} at {site}{more}: {why}",
            f"take what SGLang's own takes: {member.name}{member.signature}",
        )


def _given(shape: Shape) -> Given:
    return Given(shape.positional, shape.keywords, shape.stars or shape.double_stars)
