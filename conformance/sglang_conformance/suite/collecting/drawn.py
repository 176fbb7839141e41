"""What the checks of collectives draw: plain data, whatever the size of the group.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from hypothesis import strategies as st

from .. import drawing

FLOATS = ("bfloat16", "float16", "float32")
"""What models are served in: every backend must reduce these."""
INTEGERS = ("int32", "int64")
"""What SGLang counts, and numbers tokens, in."""
MOVED = (*FLOATS, *INTEGERS, "uint8", "bool")
"""What SGLang moves between ranks; bytes are also what it views other types as."""

floats = st.sampled_from(FLOATS)
moved = st.sampled_from(MOVED)
shapes = st.lists(st.integers(1, 6), max_size=3)
"""Shapes of tensors that are not empty, also of those without a dimension."""
arrays = st.lists(st.integers(1, 6), min_size=1, max_size=3)
"""Shapes with at least one dimension."""
salts = st.integers(0, 60)
"""Which numbers the ranks bring."""
texts = drawing.texts("ab \n\0é漢😀", most=6)
seeds = st.integers(0, 2**32 - 1)
