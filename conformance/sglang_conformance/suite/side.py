"""How the ranks of a check speak to each other beside what they check: through the store in which they met.

Neither torch's collectives nor SGLang's groups have a part in it: a vendor may have replaced those, and they may be
what is wrong.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Side:
    """One rank's hold on the store, of which each check has a part of its own; waits end after ``seconds``."""

    store: Any
    number: int
    size: int
    seconds: float
    check: int = 1
    _turns: Iterator[int] = field(default_factory=itertools.count, init=False)

    def to_all(self, thing: Any) -> list[Any]:
        """What every rank says, by rank: plain data. All ranks must call it equally often."""
        said = f"{self.check} said {next(self._turns)}"
        self.store.set(f"{said} {self.number}", json.dumps(thing))
        return [json.loads(self.store.get(f"{said} {rank}")) for rank in range(self.size)]

    def meet(self) -> None:
        """Wait until all ranks have come here; they must all come equally often."""
        name = f"met {next(self._turns)}"
        self.add(name)
        self.wait(name, self.size)

    def add(self, name: str) -> None:
        """Count this rank."""
        self.store.add(f"{self.check} {name}", 1)

    def read(self, name: str) -> int:
        """How many ranks were counted."""
        return int(self.store.add(f"{self.check} {name}", 0))

    def wait(self, name: str, count: int) -> None:
        """Wait until so many ranks were counted; RuntimeError where they do not come in time."""
        until = time.monotonic() + self.seconds
        while self.read(name) < count:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.read(name)} of {count} ranks came to {name!r} within {self.seconds:g} s")
            time.sleep(0.0002)
