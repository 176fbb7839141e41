"""``sglang.srt.environ``: the environment variables of the contract, read when asked (SGLang 0.5.23, srt/environ.py).

Only the variables that the contract's own modules read are here; another SGLang variable raises NotCovered.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sglang_reference._errors import not_covered

from ._contract import TABLE
from ._released import Lifetime, Parameters, released

_WORDS = {"true": True, "1": True, "yes": True, "y": True, "false": False, "0": False, "no": False, "n": False}


class EnvField:
    """One variable, parsed on every read; ``default`` is what holds while it is unset or cannot be parsed.

    ``secret``: the value is not to be shown.
    """

    @released(Parameters({"secret": Lifetime("0.5.19")}))
    def __init__(self, default: Any, secret: bool = False) -> None:
        self.default = default
        self.secret = secret
        self.name = ""
        self._set_to_none = False

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def parse(self, value: str) -> Any:
        """The value that a text stands for; raises ValueError for a text that stands for none."""
        raise NotImplementedError

    def get(self) -> Any:
        """The variable's value now. A text that cannot be parsed warns, and the default holds."""
        text = os.environ.get(self.name)
        if text is None:
            return self.default
        if self._set_to_none and text == str(None):
            return None
        try:
            return self.parse(text)
        except ValueError as error:
            warnings.warn(f"{self.name} is ignored, {self.default!r} holds: {error}", stacklevel=2)
            return self.default

    def is_set(self) -> bool:
        """Whether the variable is in the environment."""
        return self.name in os.environ

    def set(self, value: Any) -> None:
        """Put ``str(value)`` into the environment; None is remembered, and read back as None."""
        self._set_to_none = value is None
        os.environ[self.name] = str(value)

    def clear(self) -> None:
        """Take the variable out of the environment."""
        self._set_to_none = False
        os.environ.pop(self.name, None)

    @contextmanager
    def override(self, value: Any) -> Iterator[None]:
        """Set the variable for a while. Restored also after an exception, which SGLang 0.5.23 does not do."""
        before, none_before = os.environ.get(self.name), self._set_to_none
        self.set(value)
        try:
            yield
        finally:
            self.clear()
            if before is not None:
                os.environ[self.name] = before
            self._set_to_none = none_before

    def __bool__(self) -> bool:
        raise RuntimeError(f"envs.{self.name} is a field, not its value; write envs.{self.name}.get()")

    def __len__(self) -> int:
        raise RuntimeError(f"envs.{self.name} is a field, not its value; write envs.{self.name}.get()")


class EnvStr(EnvField):
    """A variable whose text is its value."""

    def parse(self, value: str) -> str:
        """The text itself."""
        return value


class EnvInt(EnvField):
    """A variable that holds a whole number."""

    def parse(self, value: str) -> int:
        """The number; raises ValueError where the text is none."""
        try:
            return int(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a whole number") from None


class EnvBool(EnvField):
    """A variable that holds true, 1, yes, y or false, 0, no, n, in any case."""

    def parse(self, value: str) -> bool:
        """The truth of the word; raises ValueError for any other."""
        try:
            return _WORDS[value.lower()]
        except KeyError:
            raise ValueError(f"{value!r} is neither true nor false") from None


class Envs:
    """The fields of the table's environment, as class attributes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("SGLANG_"):
            raise not_covered(f"sglang.srt.environ.envs.{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)


_FIELDS: dict[str, type[EnvField]] = {"str": EnvStr, "int": EnvInt, "bool": EnvBool}

for _variable in TABLE["environment"]:
    _field = _FIELDS[_variable["kind"]](_variable["default"])
    _field.__set_name__(Envs, _variable["name"])
    setattr(Envs, _variable["name"], _field)

envs = Envs()
