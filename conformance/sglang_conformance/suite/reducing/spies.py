"""What passes between a group and its custom all-reduce, and what asking it makes the device do.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from . import engines


class Spy:
    """In an engine's place: counts the reductions, and passes everything on."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.reductions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def custom_all_reduce(self, *given: Any, **named: Any) -> Any:
        """As the engine's."""
        self.reductions += 1
        return self._engine.custom_all_reduce(*given, **named)


@contextlib.contextmanager
def between(coordinator: Any, engine: Any) -> Iterator[Spy]:
    """A scope in which what the group gives its engine is counted."""
    spy = Spy(engine)
    with engines.in_its_place(coordinator, spy):
        yield spy


_READING = ("_local_scalar_dense", "_to_copy", "copy_", "equal", "is_nonzero", "item", "nonzero")


def read_while(action: Callable[[], Any]) -> list[str]:
    """The operations by which an action reads what lies on a device, in the order in which torch is asked for them."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Notes each operation, and has it done."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = str(func).split(".")[1] if "." in str(func) else str(func)
            if name in _READING or name.startswith("_foreach"):
                seen.append(name)
            return func(*args, **(kwargs or {}))

    with Watching():  # type: ignore[no-untyped-call]
        action()
    return seen
