"""How a configuration says that positions are rotated: in the older way, and in that of transformers 5."""

from __future__ import annotations

from typing import Any


def rope_of(config: Any) -> tuple[Any, dict[str, Any] | None]:
    """The base of the angles, and how they are scaled; None where they are not."""
    given = getattr(config, "rope_parameters", None)
    theta = (given or {}).get("rope_theta", getattr(config, "rope_theta", None))
    scaling = given or getattr(config, "rope_scaling", None)
    plain = not scaling or scaling.get("rope_type", scaling.get("type", "default")) == "default"
    return 10000 if theta is None else theta, None if plain else scaling
