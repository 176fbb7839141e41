"""Factories, whose answers may stand on parts of SGLang that this host lacks.

A right factory imports the in-tree class that it hands out or extends. The reference host has pools, allocators and
operators, and not all else of SGLang; a real SGLang may lack a package that one of its modules needs. Such a factory
has shown that it goes to SGLang for its answer; what it then gives can only be seen on a complete host, and is no fault
of the platform's.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
from typing import Any

from .. import expect
from .lacking import raised_in_sglang


def answer_of(platform: Any, member: str, *args: Any, **kwargs: Any) -> expect.Answer | None:
    """A factory's answer, as :func:`.expect.ask` gives it; None where it went for a part of SGLang that is not here."""
    try:
        return expect.ask(platform, member, *args, **kwargs)
    except ImportError:  # the reference's refusal: ask lets no other pass
        return None
    except expect.Violation as violation:
        raised = violation.__context__
        if raised is not None and raised_in_sglang(raised):
            return None
        raise


def class_of(
    platform: Any, member: str, *args: Any, or_none: bool = False, cause: str = "", **kwargs: Any
) -> expect.Answer | None:
    """A factory's answer, which must be a class; None where there is no class to look at.

    That is so where the factory went for a part of SGLang that is not here, or answered None and ``or_none`` allows it.
    """
    answer = answer_of(platform, member, *args, **kwargs)
    return _kept(answer, answer is not None and isinstance(answer.value, type), "a class", or_none, cause)


def maker_of(
    platform: Any, member: str, *args: Any, or_none: bool = False, cause: str = "", **kwargs: Any
) -> expect.Answer | None:
    """The same of an answer that SGLang only calls: a class, or a function (or any callable) that gives the object."""
    answer = answer_of(platform, member, *args, **kwargs)
    fits = answer is not None and callable(answer.value)
    return _kept(answer, fits, "a class, or a function that makes the object", or_none, cause)


def can_be_made(answer: expect.Answer | None, *args: Any, cause: str, **kwargs: Any) -> None:
    """Fail unless what the answer holds can be called so; nothing is made. Nothing to say of no answer."""
    if answer is None:
        return
    try:
        signature = inspect.signature(answer.value)
    except (TypeError, ValueError):  # written in C, without a signature
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(answer.value, "__name__", None) or expect.show(answer.value, 60)
        given = [f"<{text}>" for text in args] + [f"{keyword}=..." for keyword in kwargs]
        expect.fail(
            expected=f"something that can be called as {name}({', '.join(given)})",
            seen=f"{name}{signature}: {error}",
            call=answer.call,
            where=expect.place(answer.value) or answer.where,
            cause=cause,
        )


def _kept(answer: expect.Answer | None, fits: bool, kind: str, or_none: bool, cause: str) -> expect.Answer | None:
    """The answer, which must be of the kind; None where there is nothing to look at."""
    if answer is None or (or_none and answer.value is None):
        return None
    expect.that(
        fits,
        expected=f"{kind}; None for SGLang's own" if or_none else kind,
        seen=f"{expect.show(answer.value)} ({type(answer.value).__name__})",
        answer=answer,
        cause=cause,
    )
    return answer
