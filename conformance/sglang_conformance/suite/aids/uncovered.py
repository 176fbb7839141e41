"""Factories, whose answers may stand on parts of SGLang that this host lacks.

A right factory imports the in-tree class that it hands out or extends. The reference host covers few of SGLang's
modules, and a real SGLang may lack a package that one of them needs. Such a factory has shown that it goes to SGLang
for its answer; what it then gives can only be seen on a complete host, and is no fault of the platform's.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
from typing import Any

from .. import expect


def answer_of(platform: Any, member: str, *args: Any, **kwargs: Any) -> expect.Answer | None:
    """A factory's answer, as :func:`.expect.ask` gives it; None where it went for a part of SGLang that is not here."""
    try:
        return expect.ask(platform, member, *args, **kwargs)
    except ImportError:  # the reference's refusal: ask lets no other pass
        return None
    except expect.Violation as violation:
        raised = violation.__context__
        if isinstance(raised, ImportError) and _raised_in_sglang(raised):
            return None
        raise


def class_of(
    platform: Any, member: str, *args: Any, or_none: bool = False, cause: str = "", **kwargs: Any
) -> expect.Answer | None:
    """A factory's answer, which must be a class; None where there is no class to look at.

    That is so where the factory went for a part of SGLang that is not here, or answered None and ``or_none`` allows it.
    """
    answer = answer_of(platform, member, *args, **kwargs)
    if answer is None or (or_none and answer.value is None):
        return None
    expect.that(
        isinstance(answer.value, type),
        expected="a class, or None for SGLang's own" if or_none else "a class",
        seen=f"{expect.show(answer.value)} ({type(answer.value).__name__})",
        answer=answer,
        cause=cause,
    )
    return answer


def can_be_made(answer: expect.Answer | None, *args: Any, cause: str, **kwargs: Any) -> None:
    """Fail unless the class in the answer takes these arguments; nothing is made. Nothing to say of no answer."""
    if answer is None:
        return
    try:
        signature = inspect.signature(answer.value)
    except (TypeError, ValueError):  # written in C, without a signature
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        given = [f"<{text}>" for text in args] + [f"{name}=..." for name in kwargs]
        expect.fail(
            expected=f"a class that can be made as {answer.value.__name__}({', '.join(given)})",
            seen=f"{answer.value.__name__}{signature}: {error}",
            call=answer.call,
            where=expect.place(answer.value) or answer.where,
            cause=cause,
        )


def _raised_in_sglang(error: ImportError) -> bool:
    """Whether the import failed in a module of SGLang's: for want of something that SGLang needs, not the platform."""
    innermost, trace = "", error.__traceback__
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        innermost = innermost if name.startswith(("importlib", "_frozen_importlib")) else name
        trace = trace.tb_next
    return innermost.startswith("sglang.")
