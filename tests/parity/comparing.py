"""Where two stories of one world differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NOTHING = "<nothing>"


@dataclass(frozen=True)
class Difference:
    """One place of a story, and what each side has there: ``/2:apply/error`` is the error of step 2, an ``apply``."""

    place: str
    real: Any
    reference: Any

    def __str__(self) -> str:
        return f"{self.place}: SGLang has {self.real!r}, the reference {self.reference!r}"


def differences(real: Any, reference: Any, place: str = "") -> list[Difference]:
    """Every innermost place where the two differ; a list whose length differs is one."""
    if isinstance(real, dict) and isinstance(reference, dict):
        return [
            found
            for key in sorted(real.keys() | reference.keys())
            for found in differences(real.get(key, NOTHING), reference.get(key, NOTHING), f"{place}/{key}")
        ]
    if isinstance(real, list) and isinstance(reference, list) and len(real) == len(reference):
        pairs = enumerate(zip(real, reference, strict=True))
        return [found for at, (one, other) in pairs for found in differences(one, other, f"{place}/{at}{_step(one)}")]
    # 1 == True == 1.0 in Python, and not here.
    return [] if type(real) is type(reference) and real == reference else [Difference(place, real, reference)]


def _step(told: Any) -> str:
    return f":{told['step']}" if isinstance(told, dict) and "step" in told else ""
