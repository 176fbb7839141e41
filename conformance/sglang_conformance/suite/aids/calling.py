"""How SGLang's core calls the members of a platform, and how the contract lets them be called.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
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


# The calls in core of the members with optional parameters, or that are called by name. Alike in all releases from
# 0.5.11 to 0.5.23 that call them (srt/utils/common.py, weight_cache/, speculative/), less what a release does not
# have yet: is_pin_memory_available took no device before 0.5.16.
FORMS: Mapping[str, tuple[Form, ...]] = {
    "get_device_total_memory": (Form(), Form(1)),
    "get_current_memory_usage": (Form(),),
    "get_device_capability": (Form(),),
    "get_device": (Form(1),),
    "get_device_uuid": (Form(1),),
    "get_compile_backend": (Form(1),),
    "is_pin_memory_available": (Form(1),),
    "get_speculative_worker_cls": (Form(named=("algorithm",)),),
    "get_speculative_graph_runner_cls": (Form(named=("algorithm", "phase")),),
}


def forms_in_core(member: Member) -> Sequence[Form]:
    """The calls that SGLang's core makes of a method; those that its signature demands where nothing else is known."""
    least, most = forms_of(member)
    known = [form for form in FORMS.get(member.name, ()) if not form.misfit(_signature(member))]
    return known or list(dict.fromkeys((least, most)))


def forms_of(member: Member) -> tuple[Form, Form]:
    """The calls that the contract's signature allows, by position: with what it requires, and with everything."""
    given = _arguments(member)
    keywords = tuple(parameter.arg for parameter in given.kwonlyargs)
    everything = len(given.posonlyargs) + len(given.args) - 1
    return Form(everything - len(given.defaults), keywords), Form(everything, keywords)


def _arguments(member: Member) -> ast.arguments:
    return cast(ast.FunctionDef, ast.parse(f"def member{member.signature}: ...").body[0]).args


def _signature(member: Member) -> inspect.Signature:
    """The contract's signature as an instance's caller sees it, without ``self``; annotations left out."""
    given = _arguments(member)
    kind = inspect.Parameter
    positional = (*given.posonlyargs, *given.args)[1:]
    required = len(positional) - len(given.defaults)
    parameters = [
        kind(a.arg, kind.POSITIONAL_OR_KEYWORD, default=kind.empty if n < required else None)
        for n, a in enumerate(positional)
    ]
    parameters += [kind(a.arg, kind.KEYWORD_ONLY) for a in given.kwonlyargs]
    return inspect.Signature(parameters)


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
