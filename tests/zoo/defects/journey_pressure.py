"""Plugins that serve rightly as long as there is room, and nobody hangs up."""

from __future__ import annotations

from collections.abc import Callable

from zoo import serving_parts as parts
from zoo.workshop import Defect, Edit

_DEADLINE = 40.0
Change = tuple[str, str]


def _part(kind: Callable[[str], tuple[Edit, ...]], text: str) -> Callable[..., Defect]:
    """What makes defects by changing a plugin's own part of that kind."""

    def defect(name: str, requirement: str, *changes: Change, also: tuple[str, ...] = ()) -> Defect:
        return Defect(name, requirement, kind(parts.changed(text, *changes)), also=also, deadline=_DEADLINE)

    return defect


_allocator = _part(parts.allocator, parts.ALLOCATOR)
_attention = _part(parts.attention, parts.ATTENTION)


def _sim(name: str, requirement: str, *edits: Edit, also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, requirement, edits, of="sim", also=also, deadline=_DEADLINE)


_COUNT = "        return len(self.pages) * self.page_size\n"
_FULL = "        if needed > len(self.pages):\n            return None\n"
_POP = "self.pages.pop() * self.page_size"
_DIRECTLY = "        if self.held is None:\n            self.take_back(pages)\n"
_CLEAR = "        self.pages = list(range(1, self.size // self.page_size + 1))\n"
_INIT = "        self.table = runner.req_to_token_pool.req_to_token\n"
_SLOTS = "        self.slots = [self.table[row, :length].long() for row, length in zip(rows, lengths)]\n"
_LATER = "    later = positions > positions[len(keys[0]) - len(queries) :, None]\n"
_BEGUN = """\
        for place, row in enumerate(rows):
            begun = self.begun.pop(row, self.slots[place][:0])
            if not decodes and new[place] < lengths[place]:
                self.slots[place] = torch.cat((begun, self.slots[place][len(begun) :]))
            elif not decodes:
                self.begun[row] = self.slots[place]
"""
_SIM_DECODE = "            return decode(q, keys, values, rows, forward_batch.seq_lens, layer)\n"
_SIM_MADE = "    return SimAttentionBackend(model_runner)\n"

DEFECTS = (
    # The allocator, when few pages are free.
    _allocator(
        "allocator-counts-a-reserve-as-free",
        "JOUR-040",
        (_COUNT, _COUNT.replace("len", "max(2, len", 1).replace(") *", ")) *")),
    ),
    _allocator("allocator-does-without-its-last-page", "JOUR-040", (_FULL, _FULL.replace(" > ", " >= "))),
    _allocator(
        "allocator-raises-before-its-last-page",
        "JOUR-040",
        (_FULL, "        if needed >= len(self.pages):\n            raise MemoryError('no page is left')\n"),
    ),
    _allocator(
        "allocator-gives-fewer-slots-than-asked",
        "JOUR-040",
        (
            "        return torch.tensor(slots, dtype",
            "        slots = slots[: -1 if len(wanted) > 1 and len(self.pages) < 2 else None]\n"
            "        return torch.tensor(slots, dtype",
        ),
    ),
    _allocator(
        "allocator-keeps-its-last-page-and-hands-it-out",
        "JOUR-040",
        (_POP, "(self.pages.pop() if len(self.pages) > 1 else self.pages[0]) * self.page_size"),
    ),
    _allocator(
        "allocator-loses-a-page-that-is-not-full",
        "JOUR-040",
        (
            "        pages = set((free_index // self.page_size).tolist())\n",
            "        whole = None if self.held is not None else len(free_index) // self.page_size * self.page_size\n"
            "        pages = set((free_index[:whole] // self.page_size).tolist())\n",
        ),
    ),
    _allocator(
        "allocator-forgets-pages-that-come-back-outside-of-a-group",
        "JOUR-040",
        (_DIRECTLY, _DIRECTLY.replace("(pages)", "(list(pages)[:1])")),
    ),
    # The prefix cache.
    _allocator(
        "allocator-clears-nothing-but-its-order",
        "JOUR-041",
        (_CLEAR, f"        if self.pages:\n            return self.pages.sort()\n{_CLEAR}"),
    ),
    _attention(
        "attention-prefills-without-the-prefix",
        "JOUR-041",
        (
            _SLOTS,
            f"{_SLOTS}        if not decodes:\n            self.slots = [s[-n:] for s, n in zip(self.slots, new)]\n",
        ),
    ),
    _attention(
        "attention-masks-as-if-there-were-no-prefix",
        "JOUR-041",
        (
            _LATER,
            _LATER.replace(
                "positions[len(keys[0]) - len(queries) :, None]",
                "positions[(len(keys[0]) - 1) * (len(queries) == 1) :][: len(queries), None]",
            ),
        ),
    ),
    # Requests that are given up.
    _attention(
        "attention-goes-on-with-a-prefill-that-was-given-up",
        "JOUR-042",
        (_INIT, f"{_INIT}        self.begun = {{}}\n"),
        (_SLOTS, f"{_SLOTS}{_BEGUN}"),
    ),
    # Several ranks.
    _allocator(
        "allocator-of-another-rank-keeps-a-page",
        "JOUR-043",
        (_COUNT, "        return (len(self.pages) - torch.distributed.get_rank()) * self.page_size\n"),
    ),
    # Memory.
    _sim(
        "attention-keeps-what-it-has-read",
        "JOUR-044",
        Edit(
            "attention.py", _SIM_DECODE, f"            self.__dict__.setdefault('seen', []).append(rows)\n{_SIM_DECODE}"
        ),
    ),
    _sim(
        "attention-of-an-earlier-server-stays",
        "JOUR-045",
        Edit(
            "attention.py",
            _SIM_MADE,
            "    _MADE.append(SimAttentionBackend(model_runner))\n    return _MADE[-1]\n",
        ),
        Edit("attention.py", 'NAME = "sim"\n', 'NAME = "sim"\n_MADE: list[Any] = []\n'),
    ),
)
