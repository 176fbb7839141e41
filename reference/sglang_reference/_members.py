"""Give the base classes the members that the contract table lists: signature, kind and default behaviour."""

from __future__ import annotations

import ast
import builtins
import copy
import enum
import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from inspect import Parameter, Signature
from typing import Any, NoReturn, TypeVar

from ._behaviours import BEHAVIOURS
from ._contract import TABLE

T = TypeVar("T", bound=type)

# How a function becomes a member of each kind. The contract's one property, cpu_arch, is computed once an instance.
_KINDS: Mapping[str, Callable[[Callable[..., Any]], Any]] = {
    "method": lambda function: function,
    "classmethod": classmethod,
    "contextmanager": contextmanager,
    "property": functools.cached_property,
}


def with_members(cls: T) -> T:
    """Class decorator: adds the members that the contract table lists for the class of this name."""
    for member in TABLE["members"]:
        if member["owner"] != cls.__name__:
            continue
        if member["kind"] == "attribute":
            _add_attribute(cls, member)
        else:
            value = _KINDS[member["kind"]](_function(cls, member))
            if isinstance(value, functools.cached_property):
                value.__set_name__(cls, member["name"])
            setattr(cls, member["name"], value)
    return cls


def declares(*, flags: Iterable[str] = (), capabilities: Iterable[str] = ()) -> Callable[[T], T]:
    """Class decorator: what a built-in platform declares that it can do, in the words of the table's release.

    ``flags`` are the methods that are true while the release asks by methods, ``capabilities`` the fields that are true
    where it has PlatformCapabilities; what the release does not know is left out.
    """

    def declared(cls: T) -> T:
        known = {member["name"] for member in TABLE["members"]}
        for name in flags:
            if name in known:
                setattr(cls, name, _yes(cls, name))
        if TABLE["capabilities"]:
            from .platforms.interface import PlatformCapabilities

            told = {name: True for name in capabilities if name in TABLE["capabilities"]}
            cls.capabilities = PlatformCapabilities(**told)  # type: ignore[attr-defined]
        return cls

    return declared


def _yes(cls: type, name: str) -> Callable[[Any], bool]:
    def flag(self: Any) -> bool:
        return True

    flag.__name__ = name
    flag.__qualname__ = f"{cls.__name__}.{name}"
    flag.__module__ = cls.__module__
    return flag


def enumeration(name: str, members: Iterable[str], module: str) -> Any:
    """An enum with these members, numbered from 1, as if defined in ``module``."""
    return enum.Enum(name, list(members), module=module)


def _add_attribute(cls: type, member: Mapping[str, Any]) -> None:
    name, default = member["name"], member["default"]
    if default["kind"] == "raises":
        return  # only annotated: it does not exist until a subclass sets it
    if default["kind"] == "code":
        value = BEHAVIOURS[name]()
    elif name == "_enum":
        from .platforms.device_mixin import PlatformEnum

        value = PlatformEnum[default["value"]]
    else:
        value = copy.deepcopy(default["value"])
    setattr(cls, name, value)


def _function(cls: type, member: Mapping[str, Any]) -> Callable[..., Any]:
    """A function of the member's signature and default behaviour, which looks as if it were written in ``cls``."""
    qualified = f"{cls.__name__}.{member['name']}"
    signature = signature_of(member["signature"])
    behave = _behaviour(member)

    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{qualified}() {error}") from None
        bound.apply_defaults()
        return behave(*bound.args, **bound.kwargs)

    function.__name__ = member["name"]
    function.__qualname__ = qualified
    function.__module__ = cls.__module__
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _behaviour(member: Mapping[str, Any]) -> Callable[..., Any]:
    kind, value = member["default"]["kind"], member["default"]["value"]
    if kind == "code":
        return BEHAVIOURS[member["name"]]
    if kind == "raises":
        error: type[Exception] = getattr(builtins, value)

        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise error

        return refuse
    constant = None if kind == "noop" else value
    return lambda *args, **kwargs: copy.deepcopy(constant)


def signature_of(text: str) -> Signature:
    """The signature that ``text`` writes down, from its opening parenthesis on; annotations stay text.

    Raises SyntaxError or ValueError where the text is no signature or a default is no literal.
    """
    definition = ast.parse(f"def member{text}: ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    arguments = definition.args
    ordinary: list[tuple[ast.arg, Any]] = [(a, Parameter.POSITIONAL_ONLY) for a in arguments.posonlyargs]
    ordinary += [(a, Parameter.POSITIONAL_OR_KEYWORD) for a in arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(ordinary) - len(arguments.defaults))
    defaults += arguments.defaults
    parameters = [_parameter(a, kind, value) for (a, kind), value in zip(ordinary, defaults, strict=True)]
    if arguments.vararg is not None:
        parameters.append(_parameter(arguments.vararg, Parameter.VAR_POSITIONAL, None))
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    parameters += [_parameter(a, Parameter.KEYWORD_ONLY, value) for a, value in keywords]
    if arguments.kwarg is not None:
        parameters.append(_parameter(arguments.kwarg, Parameter.VAR_KEYWORD, None))
    return Signature(parameters, return_annotation=_annotation(definition.returns))


def _parameter(argument: ast.arg, kind: Any, default: ast.expr | None) -> Parameter:
    value = Parameter.empty if default is None else ast.literal_eval(default)
    return Parameter(argument.arg, kind, default=value, annotation=_annotation(argument.annotation))


def _annotation(node: ast.expr | None) -> Any:
    return Signature.empty if node is None else ast.unparse(node)
