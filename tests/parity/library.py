"""A small library made for hooks to aim at: functions, classes, and modules that import from each other by name.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

LIBRARY = "parity_library"
USER = "parity_user"
INNER = "parity_package.inner"
TARGETS = (
    f"{LIBRARY}.plain",
    f"{LIBRARY}.other",
    f"{LIBRARY}.Base",
    f"{LIBRARY}.Base.method",
    f"{LIBRARY}.Base.make",
    f"{LIBRARY}.Base.count",
    f"{LIBRARY}.Base.Nested.deep",
    f"{LIBRARY}.Child",
    f"{LIBRARY}.Child.method",
    f"{LIBRARY}.Child.make",
    f"{LIBRARY}.Child.count",
    f"{USER}.plain",
    f"{USER}.Base",
    f"{INNER}.work",
)
"""What there is to hook."""
ODD_TARGETS = (
    f"{LIBRARY}.Base.value",
    f"{LIBRARY}.Base.__init__",
    f"{LIBRARY}.constant",
    f"{LIBRARY}.bound",
    f"{LIBRARY}.length",
    f"{LIBRARY}.instance",
    f"{LIBRARY}.instance.method",
    f"{LIBRARY}.missing",
    f"{LIBRARY}.Base.missing",
    f"{LIBRARY}.plain.missing",
    f"{LIBRARY}:plain",
    f"{LIBRARY}:Base.method",
    f"{USER}.again",
    LIBRARY,
    INNER,
    "nowhere.at.all",
    "plain",
    "",
    ".",
    f"{LIBRARY}.",
    f".{LIBRARY}",
    "not a path.at all",
)
"""What is no function, is not there, or is no path."""
_KEPT = ("sglang", "parity", "builtins", "sys")


def build(tell: Callable[..., None]) -> None:
    """Import the library anew; whatever of it runs is told, with its arguments."""

    def named(function: Any, name: str, module: str = LIBRARY) -> Any:
        function.__module__, function.__name__, function.__qualname__ = module, name.rpartition(".")[2], name
        return function

    def made(name: str, module: str = LIBRARY, skip: int = 0) -> Any:
        def function(*args: Any, **kwargs: Any) -> Any:
            tell(name, [_short(each) for each in args], {key: _short(value) for key, value in kwargs.items()})
            return (name, *args[skip:], *kwargs.values())

        return named(function, name, module)

    nested = type("Nested", (), {"deep": made("Base.Nested.deep", skip=1), "__module__": LIBRARY})
    base = type(
        "Base",
        (),
        {
            "method": made("Base.method", skip=1),
            "make": classmethod(made("Base.make", skip=1)),
            "count": staticmethod(made("Base.count")),
            "value": property(made("Base.value", skip=1)),
            "Nested": nested,
            "__module__": LIBRARY,
        },
    )
    child = type("Child", (base,), {"method": made("Child.method", skip=1), "__module__": LIBRARY})
    plain = made("plain")
    library = _module(
        LIBRARY,
        plain=plain,
        other=made("other"),
        Base=base,
        Child=child,
        constant=float("7.25"),  # nobody else's object
        bound=functools.partial(plain, 1),
        length=math.isqrt,
        instance=child(),
    )
    _module(
        USER,
        plain=plain,
        again=plain,
        library=library,
        Base=base,
        table={"plain": plain},
        Holder=type("Holder", (), {"plain": staticmethod(plain)}),
        late=functools.partial(plain, 2),
    )
    inner = _module(INNER, work=made("work", INNER))
    _module("parity_package", inner=inner, __path__=[])
    sys.modules["parity_none"] = None  # type: ignore[assignment]
    sys.modules["parity_object"] = type("Lazy", (), {"plain": plain})()


def alone() -> None:
    """Leave only SGLang's plugins and this library imported: every hook looks through all that is, which takes long."""
    for name in [name for name in sys.modules if not name.startswith(_KEPT) or name.startswith("sglang")]:
        if not name.startswith(
            ("sglang.srt.plugins", "encodings", "importlib", "pkgutil", "re", "warnings", "logging")
        ):
            del sys.modules[name]


def survey() -> Mapping[str, Any]:
    """What each name of the library holds now, and how many wrappers deep."""
    library: Any = sys.modules[LIBRARY]
    user: Any = sys.modules[USER]
    inner: Any = sys.modules[INNER]
    held: dict[str, Any] = {
        "plain": library.plain,
        "other": library.other,
        "Base": library.Base,
        "Child": library.Child,
        "user.plain": user.plain,
        "user.again": user.again,
        "user.Base": user.Base,
        "user.table": user.table["plain"],
        "user.Holder": vars(user.Holder)["plain"],
        "user.late": user.late.func,
        "work": inner.work,
        "length": library.length,
        "constant": library.constant,
        "instance": library.instance,
    }
    for owner in ("Base", "Child"):
        for name, value in getattr(getattr(library, owner), "__dict__", {}).items():
            if name in ("method", "make", "count", "value", "missing", "__init__"):
                held[f"{owner}.{name}"] = value
    return {
        "held": {name: _wrapped(value) for name, value in held.items()},
        "same": {
            "user.plain": user.plain is library.plain,
            "user.again": user.again is library.plain,
            "user.Base": user.Base is library.Base,
            "object": sys.modules["parity_object"].plain is library.plain,
            "Child is a Base": isinstance(library.Child, type)
            and isinstance(library.Base, type)
            and issubclass(library.Child, library.Base),
        },
    }


def _wrapped(value: Any) -> Any:
    """The kinds of the object and of all that it wraps, with their names."""
    chain: list[Any] = []
    while value is not None and len(chain) < 12:
        name = getattr(value, "__qualname__", None)
        chain.append([type(value).__name__, name.rpartition(">.")[2] if isinstance(name, str) else None])
        value = getattr(value, "__func__", None) or getattr(value, "__wrapped__", None)
    return chain


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
    return module


def _short(value: Any) -> Any:
    if isinstance(value, (int, str, type(None))):
        return value
    return value.__name__ if isinstance(value, type) else type(value).__name__
