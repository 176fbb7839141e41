"""How SGLang's core calls the members of a platform, and how the contract lets them be called.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ...contract.model import Member
from .. import expect
from .resolution import overrides


@dataclass(frozen=True)
class Form:
    """The shape of a call: how many arguments are given by position, and which by name."""

    positional: int = 0
    named: tuple[str, ...] = ()

    def misfit(self, accepted: inspect.Signature) -> str:
        """Why a callable of this signature does not take such a call; empty where it does."""
        try:
            accepted.bind(*(None,) * self.positional, **dict.fromkeys(self.named))
        except TypeError as error:
            return str(error)
        return ""

    def spell(self, member: str) -> str:
        """The call as a person would write it."""
        given = (*("..." for _ in range(self.positional)), *(f"{name}=..." for name in self.named))
        return f"platform.{member}({', '.join(given)})"


def forms_in_core(member: Member) -> Sequence[Form]:
    """The calls that SGLang's core makes of a method; those that its signature demands where none can be read there."""
    shapes = {site.call for site in member.calls if site.call is not None}
    told = {Form(shape.positional, shape.keywords) for shape in shapes if not (shape.stars or shape.double_stars)}
    return sorted(told, key=lambda form: (form.positional, form.named)) or list(dict.fromkeys(forms_of(member)))


def forms_of(member: Member) -> tuple[Form, Form]:
    """The calls that the contract's signature allows, by position: with what it requires, and with everything."""
    given = cast(ast.FunctionDef, ast.parse(f"def member{member.signature}: ...").body[0]).args
    keywords = tuple(parameter.arg for parameter in given.kwonlyargs)
    everything = len(given.posonlyargs) + len(given.args) - 1
    return Form(everything - len(given.defaults), keywords), Form(everything, keywords)


def overridden(platform: Any, members: Sequence[Member]) -> Iterator[tuple[Member, inspect.Signature]]:
    """The methods among these that the vendor overrides, with what each accepts."""
    for member in members:
        if member.kind in ("attribute", "property") or not overrides(platform, member.name):
            continue
        answers = getattr(platform, member.name, None)
        if not callable(answers):
            continue
        try:
            yield member, inspect.signature(answers)
        except ValueError:  # a builtin without a signature
            continue


def need_fit(platform: Any, member: Member, accepted: inspect.Signature, forms: Sequence[Form], *, of: str) -> None:
    """Fail unless the method accepts each form of call; ``of`` says whose calls they are."""
    for form in forms:
        wrong = form.misfit(accepted)
        expect.that(
            not wrong,
            expected=f"a method that can be called as {member.name}{member.signature}",
            seen=f"{member.name}{accepted}: {wrong}",
            call=form.spell(member.name),
            where=expect.place_of(platform, member.name),
            cause=of,
        )
