"""The names of the jobs that ranks run for a benchmark, and of what they may be at: known without importing either."""

from __future__ import annotations

from .model import ENGINES

BODY = f"{__package__}.body"
DESCRIBE = f"{BODY}:describe"
MEASURE = f"{BODY}:measure"

MAKING, ASKING = 0, 1
PARTS = ("making the tensors", "asking for the engines", *ENGINES)
"""By the number that a rank says when it comes to it."""
