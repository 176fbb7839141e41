"""An allocator heard while it serves: each of its answers is held against what it has answered before.

What the core asks for is the core's affair. That no page is handed out twice, that slots follow their request's last
one, that what is given back is there again, and that the count says so after each call, is the allocator's.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import expect

MEMBER = "get_paged_allocator_cls"
_CAUSE = f"what {MEMBER}() gives keeps account as SGLang's own PagedTokenToKVPoolAllocator does: "
Ask = Callable[[], Any]


class Audit:
    """The pages that are out by what an allocator has answered, from when none is."""

    def __init__(self, allocator: Any) -> None:
        self._allocator = allocator
        self._size = int(allocator.page_size)
        self._pages = int(allocator.size) // self._size
        self._out: set[int] = set()
        self._back: set[int] | None = None  # what is held back, where a group is open
        self._inside = False
        self._where = expect.place(type(allocator))

    @contextlib.contextmanager
    def on(self) -> Iterator[Audit]:
        """Hear every call, until the end; a wrong answer is a violation, where it is given."""
        heard: dict[str, Callable[..., Any]] = {
            "alloc": self._alloc,
            "alloc_extend": self._extend,
            "alloc_decode": self._decode,
            "clear": self._clear,
            "free_group_begin": self._begin,
            "free_group_end": self._end,
            "free": self._freed,
            "free_segment": self._freed_segment,
            "free_segments": self._freed_segments,
            "free_page_ids": self._freed_pages,
        }
        there = {name: hear for name, hear in heard.items() if hasattr(self._allocator, name)}
        for name, hear in there.items():
            setattr(self._allocator, name, self._outermost(name, hear))
        try:
            yield self
        finally:
            for name in there:
                delattr(self._allocator, name)

    def _outermost(self, name: str, hear: Callable[..., Any]) -> Callable[..., Any]:
        """The method, heard where it is not the allocator itself that calls it."""
        method = getattr(self._allocator, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return method(*args, **kwargs)
            if name == "free_segments":
                args = tuple(list(each) for each in args)  # they can perhaps be read but once

            def ask() -> Any:
                self._inside = True
                try:
                    return method(*args, **kwargs)
                finally:
                    self._inside = False

            return hear(ask, *args, **kwargs)

        return call

    def _alloc(self, ask: Ask, need_size: int) -> Any:
        return self._answered(f"allocator.alloc({need_size})", ask, [(0, int(need_size), -1)])

    # The parameters are SGLang's, whose core names some of them in some releases.

    def _extend(
        self,
        ask: Ask,
        prefix_lens: Any,
        prefix_lens_cpu: Any,
        seq_lens: Any,
        seq_lens_cpu: Any,
        last_loc: Any,
        *_: Any,
        **__: Any,
    ) -> Any:
        spans = list(zip(_plain(prefix_lens_cpu), _plain(seq_lens_cpu), _plain(last_loc), strict=True))
        told = ", ".join(f"{first} to {end}" for first, end, _ in spans)
        return self._answered(f"allocator.alloc_extend(tokens {told})", ask, spans)

    def _decode(self, ask: Ask, seq_lens: Any, seq_lens_cpu: Any, last_loc: Any, *_: Any, **__: Any) -> Any:
        grown = _plain(seq_lens_cpu)
        spans = [(end - 1, end, slot) for end, slot in zip(grown, _plain(last_loc), strict=True)]
        return self._answered(f"allocator.alloc_decode(lengths {', '.join(map(str, grown))})", ask, spans)

    def _answered(self, call: str, ask: Ask, spans: Sequence[tuple[int, int, int]]) -> Any:
        """Take in what was answered for spans of positions, each of a request: from, to, and the slot before."""
        free, needed = self._pages - len(self._out), sum(self._new(first, end) for first, end, _ in spans)
        answer = expect.attempt(call, ask, where=self._where, cause=_CAUSE + "it answers None where pages lack")
        if answer.value is None:
            seen = f"None: {free} pages are free, {needed} are needed"
            expect.that(needed > free, expected="slots", seen=seen, answer=answer, cause=_CAUSE + "it has these pages")
            return None
        wrong = self._taken(spans, _plain(answer.value))
        expect.that(
            not wrong,
            expected="the next slots of each request, in pages that nobody has",
            seen=wrong,
            answer=answer,
            cause=_CAUSE + "a page belongs to one request, or to the prefix cache, until it is given back",
        )
        self._count(call)
        return answer.value

    def _new(self, first: int, end: int) -> int:
        return -(-end // self._size) - -(-first // self._size)

    def _taken(self, spans: Sequence[tuple[int, int, int]], slots: Sequence[int]) -> str:
        """Take the pages of these slots; says what is wrong with them, if something is."""
        wanted = sum(end - first for first, end, _ in spans)
        if len(slots) != wanted:
            return f"{len(slots)} slots for {wanted} tokens"
        given = iter(slots)
        for first, end, before in spans:
            for position in range(first, end):
                slot = next(given)
                if wrong := self._wrong(slot, position, before):
                    return f"slot {slot} for position {position}: {wrong}"
                self._out.add(slot // self._size)
                before = slot
        return ""

    def _wrong(self, slot: int, position: int, before: int) -> str:
        page, within = divmod(slot, self._size)
        if position % self._size:
            return "" if slot == before + 1 else f"the one before has slot {before}, in a page that is not full"
        if within:
            return f"it stands at {within} in its page"
        if not 1 <= page <= self._pages:
            return f"there are the pages 1 to {self._pages}"
        return f"page {page} was handed out before, and not given back" if page in self._out else ""

    def _freed(self, ask: Ask, free_index: Any, **_: Any) -> None:
        self._give_back(f"allocator.free({len(free_index)} slots)", ask, self._of(free_index))

    def _freed_segment(self, ask: Ask, free_index: Any, **given: Any) -> None:
        call = f"allocator.free_segment({len(free_index)} slots, start_pos={given.get('start_pos')})"
        self._give_back(call, ask, self._of(free_index))

    def _freed_segments(self, ask: Ask, segments: Sequence[tuple[Any, int]]) -> None:
        pages = {page for free_index, _ in segments for page in self._of(free_index)}
        self._give_back(f"allocator.free_segments({len(segments)} of them)", ask, pages)

    def _freed_pages(self, ask: Ask, page_ids: Any) -> None:
        self._give_back(f"allocator.free_page_ids({_plain(page_ids)})", ask, set(_plain(page_ids)))

    def _of(self, slots: Any) -> set[int]:
        return {slot // self._size for slot in _plain(slots)}

    def _give_back(self, call: str, ask: Ask, pages: set[int]) -> None:
        expect.attempt(call, ask, where=self._where)
        if self._back is not None:
            self._back |= pages
            return
        self._out -= pages
        self._count(call)

    def _begin(self, ask: Ask) -> None:
        expect.attempt("allocator.free_group_begin()", ask, where=self._where)
        self._back = set()

    def _end(self, ask: Ask) -> None:
        expect.attempt("allocator.free_group_end()", ask, where=self._where)
        back, self._back = self._back or set(), None
        self._out -= back
        self._count(f"allocator.free_group_end(), with {len(back)} pages given back in the group")

    def _clear(self, ask: Ask) -> None:
        expect.attempt("allocator.clear()", ask, where=self._where)
        self._out.clear()
        self._back = None
        self._count("allocator.clear()")

    def _count(self, after: str) -> None:
        """Fail unless what is free is what is not out. While a group is open, nobody says what the count is to be."""
        if self._back is not None:
            return
        call = f"{after}; allocator.available_size()"
        said = expect.attempt(call, self._allocator.available_size, where=self._where)
        expect.equal(
            int(said.value),
            (self._pages - len(self._out)) * self._size,
            call=call,
            where=self._where,
            cause=_CAUSE
            + "too high a count, and requests are admitted that run out midway; too low, and slots are lost",
        )


def _plain(numbers: Any) -> list[int]:
    """Whole numbers of a tensor, wherever it is."""
    return [int(number) for number in numbers.cpu().tolist()]
