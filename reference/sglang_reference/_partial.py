"""What the reference's objects lack of SGLang's: asked for, it ends as a refusal and not as a wrong answer."""

from __future__ import annotations

from typing import Any, NoReturn


class NotCovered(AttributeError):
    """An attribute that SGLang's object may well have and the reference's does not.

    An AttributeError: code that asks with ``hasattr``, or with a default, goes on. The kit knows it by its name.
    """


class Partial:
    """Mixin for classes of which SGLang's own hold more."""

    def __getattr__(self, name: str) -> Any:
        """Refuse what is not here; private names and Python's own are simply absent."""
        refuse(self, name)


def refuse(owner: object, name: str) -> NoReturn:
    """Raise what asking ``owner`` for ``name`` ends with.

    NotCovered for a public name; a plain AttributeError for one with a leading underscore, which nobody's contract has.
    """
    kind = type(owner)
    if name.startswith("_"):
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}", name=name, obj=owner)
    text = (
        f"the SGLang reference does not cover {kind.__module__}.{kind.__qualname__}.{name}; "
        "use --sglang=installed to check against the real SGLang"
    )
    raise NotCovered(text, name=name, obj=owner)
