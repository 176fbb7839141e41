"""How a check says what it expected and what it saw: asserts that speak in values.

Every failure of a check is a :class:`Violation` with the finding that a person reads first. Check bodies run in
probes, outside pytest's assertion rewriting, so a bare ``assert`` there would say nothing; these helpers do.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from ..certificate.model import Finding


class Violation(AssertionError):
    """A requirement is broken. ``finding`` says how, as plain data."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"expected {finding.expected}; saw {finding.seen}")
        self.finding = {**vars(finding)}


class Declined(Exception):
    """The platform declines an optional capability, and a negative probe has seen the documented refusal."""


class NotReached(Exception):
    """What the check looks at was not reached, because of a failure that another requirement reports."""


class HostDefect(Exception):
    """SGLang's own code, which the plugin has no part in, breaks the rule: nobody's plugin is to blame.

    ``by``: the violation that shows it, where there is one.
    """

    def __init__(self, fault: str, by: Violation | None = None) -> None:
        super().__init__(fault)
        self.finding = by.finding if by is not None else None


class NotCovered(ImportError):
    """What the check asks cannot be seen on this host: by this name the kit reports it as blocked."""


@dataclass(frozen=True)
class Answer:
    """What a member of the platform returned, the call that was made, and where the member is defined."""

    value: Any
    call: str
    where: str


def fail(*, expected: str, seen: str, call: str = "", where: str = "", cause: str = "", detail: str = "") -> NoReturn:
    """Say that a requirement is broken."""
    raise Violation(Finding(expected, seen, call, where, cause, detail))


def that(
    truth: object,
    *,
    expected: str,
    seen: str,
    call: str = "",
    where: str = "",
    cause: str = "",
    answer: Answer | None = None,
) -> None:
    """Fail unless ``truth`` holds; ``answer`` gives the call and the place where they are not given."""
    if not truth:
        call, where = (call or answer.call, where or answer.where) if answer else (call, where)
        fail(expected=expected, seen=seen, call=call, where=where, cause=cause)


def equal(got: Any, expected: Any, *, call: str = "", where: str = "", cause: str = "") -> None:
    """Fail unless what was got (a value or an Answer) equals what was expected."""
    answer = got if isinstance(got, Answer) else Answer(got, call, where)
    that(
        answer.value == expected,
        expected=show(expected),
        seen=show(answer.value),
        answer=answer,
        call=call,
        where=where,
        cause=cause,
    )


def instance(answer: Answer, kind: type | tuple[type, ...], *, expected: str = "", cause: str = "") -> None:
    """Fail unless the answer is of the kind; a bool does not pass for an int."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    right = isinstance(answer.value, kinds) and not (isinstance(answer.value, bool) and bool not in kinds)
    that(
        right,
        expected=expected or "a value of type " + " or ".join(k.__name__ for k in kinds),
        seen=f"{show(answer.value)} ({type(answer.value).__name__})",
        answer=answer,
        cause=cause,
    )


def ask(subject: Any, member: str, *args: Any, **kwargs: Any) -> Answer:
    """Call a member of the platform; whatever it raises is a violation that names the call and the vendor's line."""
    call = spell(member, args, kwargs)
    where = place_of(subject, member)
    try:
        return Answer(getattr(subject, member)(*args, **kwargs), call, where)
    except NotImplementedError as error:
        cause = "" if where else f"{member} is not overridden: what answers is SGLang's own default"
        fail(expected="an answer", seen=_raised(error), call=call, where=where, cause=cause)
    except Exception as error:
        pass_on_uncovered(error)
        fail(expected="an answer", seen=_raised(error), call=call, where=_raised_at(error) or where)


def refused(
    subject: Any, member: str, *args: Any, errors: type[BaseException] | tuple[type[BaseException], ...]
) -> None:
    """Fail unless calling the member raises one of the errors."""
    call, where = spell(member, args, {}), place_of(subject, member)
    kinds = errors if isinstance(errors, tuple) else (errors,)
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        value = getattr(subject, member)(*args)
    except kinds:
        return
    except Exception as error:
        pass_on_uncovered(error)
        fail(expected=names, seen=_raised(error), call=call, where=_raised_at(error) or where)
    fail(expected=names, seen=f"the answer {show(value)}", call=call, where=where)


def show(value: Any, most: int = 160) -> str:
    """A value as a short text."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<a {type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def spell(member: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> str:
    """A call as a person would write it: ``platform.get_device(1)``."""
    given = [show(arg, 40) for arg in args] + [f"{key}={show(value, 40)}" for key, value in (kwargs or {}).items()]
    return f"platform.{member}({', '.join(given)})"


def place_of(subject: Any, member: str) -> str:
    """``file:line`` of a platform's member where the vendor defines it; empty where it is inherited from SGLang."""
    owner = next((c for c in type(subject).__mro__ if member in vars(c)), None)
    if owner is None or owner.__module__.partition(".")[0] in ("sglang", "builtins"):
        return ""
    definition = vars(owner)[member]
    function = getattr(definition, "__func__", None) or getattr(definition, "fget", None)
    return place(function or getattr(definition, "func", None) or definition) or place(owner)


def place(thing: Any) -> str:
    """``file:line`` of a function or class; empty where it has no source."""
    try:
        thing = inspect.unwrap(thing) if isinstance(thing, types.FunctionType) else thing
        return f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"
    except (TypeError, OSError):
        return ""


def attempt(call: str, action: Callable[[], Any], *, where: str = "", cause: str = "") -> Answer:
    """Do something with what the platform gave (not a call of a member); what it raises is a violation."""
    try:
        return Answer(action(), call, where)
    except Exception as error:
        raised(error, call=call, where=where, cause=cause)


def raised(error: Exception, *, call: str, where: str = "", cause: str = "") -> NoReturn:
    """Fail with an error that came of what the platform gave; pass on that the host does not cover something."""
    pass_on_uncovered(error)
    fail(expected="no error", seen=_raised(error), call=call, where=_raised_at(error) or where, cause=cause)


def pass_on_uncovered(error: BaseException) -> None:
    """Raise the error again where it says that this host does not cover something: nobody's plugin is wrong."""
    if is_uncovered(error):
        raise error


def is_uncovered(error: BaseException) -> bool:
    """Whether the error says that this host does not cover something: the reference has a type of that name too."""
    return any(kind.__name__ == NotCovered.__name__ for kind in type(error).__mro__)


def _raised(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _raised_at(error: BaseException) -> str:
    """The innermost line of vendor code in a traceback."""
    from ..blame import vendor_line

    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno, trace.tb_frame.f_code.co_name))
        trace = trace.tb_next
    return vendor_line(frames)
