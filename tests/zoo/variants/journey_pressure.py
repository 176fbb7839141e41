"""Right plugins that keep account, or keep tensors, in ways of their own."""

from __future__ import annotations

from zoo import serving_parts as parts
from zoo.workshop import Edit, Variant

_PRESSURE = ("JOUR-040", "JOUR-041", "JOUR-042", "JOUR-043")
_DEADLINE = 60.0

_COUNT = "        return len(self.pages) * self.page_size\n"
_NEEDED = "        if needed > len(self.pages):\n"
_BACK = "        self.pages.extend(sorted(pages))\n"
_CLEAR = "        self.pages = list(range(1, self.size // self.page_size + 1))\n"
_SIM_DECODE = "            return decode(q, keys, values, rows, forward_batch.seq_lens, layer)\n"
_SIM_TABLE = "            self._table = model_runner.req_to_token_pool.req_to_token\n"

VARIANTS = (
    Variant(
        "allocator-of-its-own-under-pressure",
        _PRESSURE,
        parts.allocator(),
        "which page a request gets is the allocator's affair, as long as nobody else has it",
        deadline=_DEADLINE,
    ),
    Variant(
        "allocator-sorts-in-only-when-pages-lack",
        ("JOUR-040", "JOUR-041"),
        parts.allocator(
            parts.changed(
                parts.ALLOCATOR,
                (_COUNT, "        return (len(self.pages) + len(self.later)) * self.page_size\n"),
                (_BACK, "        self.later.extend(pages)\n"),
                (_CLEAR, f"{_CLEAR}        self.later = []\n"),
                (
                    _NEEDED,
                    "        if needed > len(self.pages):\n"
                    "            self.pages, self.later = sorted(self.pages + self.later), []\n" + _NEEDED,
                ),
            )
        ),
        "SGLang's own does so with need_sort (0.5.23, srt/mem_cache/allocator/paged.py): what waits counts as free",
        deadline=_DEADLINE,
    ),
    Variant(
        "attention-keeps-a-buffer-of-the-largest-batch",
        ("JOUR-044", "JOUR-045"),
        (
            Edit("attention.py", _SIM_TABLE, f"{_SIM_TABLE}            self._kept: dict[int, Any] = {{}}\n"),
            Edit("attention.py", _SIM_DECODE, f"            self._kept[len(rows)] = rows\n{_SIM_DECODE}"),
        ),
        "what is kept for each size of a batch is bounded, and goes with the server",
        of="sim",
        deadline=_DEADLINE,
    ),
)
