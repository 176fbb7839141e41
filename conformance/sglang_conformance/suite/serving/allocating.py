"""An allocator of slots, asked as SGLang's core asks it, and held against plain numbers.

The core's calls are by position (0.5.11 srt/mem_cache/common.py, 0.5.23 srt/mem_cache/allocation.py). Lengths are of
64 bits; slots that are read from the rows of requests, as the last one before a decode and those of a request that
ends, are of 32, while those that the prefix cache gives up are of 64.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...oracles.pages import Pages
from .. import expect
from ..aids import parts
from ..aids.resolution import is_sglangs

MEMBER = "get_paged_allocator_cls"


class Asked:
    """An allocator, and who has its slots by what it has answered.

    ``tokens`` and ``page_size`` are what it was made for; where they are not given, what it says itself.
    """

    def __init__(self, allocator: Any, device: Any, tokens: int | None = None, page_size: int | None = None) -> None:
        self._allocator = allocator
        self._device = device
        size = int(allocator.page_size if page_size is None else page_size)
        self.pages = Pages(int(allocator.size if tokens is None else tokens) // size, size)
        self._where = "" if is_sglangs(type(allocator)) else expect.place(type(allocator))

    def begin(self, lengths: Mapping[str, int]) -> None:
        """Requests come, or go on, with so many more tokens each: ``alloc_extend``, or ``alloc`` of single slots."""
        if self.pages.size == 1:
            self._ask_for_any(lengths)
            return
        before = {name: len(self.pages.owned.get(name, ())) for name in lengths}
        after = {name: before[name] + length for name, length in lengths.items()}
        pairs = (self._tensors(before.values()), self._tensors(after.values()))
        given = (*pairs[0], *pairs[1], self._last(lengths), sum(lengths.values()))
        told = ", ".join(f"{before[name]} to {after[name]}" for name in lengths)
        self._ask("alloc_extend", f"tokens {told}", given, lengths)

    def step(self, names: Sequence[str]) -> None:
        """Each of these requests makes one more token: ``alloc_decode``, or ``alloc`` of single slots."""
        if self.pages.size == 1:
            self._ask_for_any(dict.fromkeys(names, 1))
            return
        grown = self._tensors(len(self.pages.owned[name]) + 1 for name in names)
        told = ", ".join(str(len(self.pages.owned[name]) + 1) for name in names)
        last = self._last(names, narrow=True)
        self._ask("alloc_decode", f"lengths {told}", (*grown, last), dict.fromkeys(names, 1))

    def end(self, names: Sequence[str], *, together: bool = False, segments: bool = False) -> None:
        """These requests are done: ``free``; ``together`` in one group, as at the end of a batch.

        ``segments``: by ``free_segment``, as the prefix cache gives slots back from 0.5.17 on.
        """
        call = f"free the slots of {len(names)} requests"
        self._give_back([self.pages.drop([name]) for name in names], call, together=together, segments=segments)

    def shorten(self, name: str, pages: int, *, segments: bool = False) -> None:
        """A request keeps its first pages, at most so many, and gives back the rest; that may be nothing."""
        own = self.pages.owned[name]
        kept = min(pages * self.pages.size, len(own))
        if segments and kept == len(own):  # which ends in no border
            return
        self.pages.owned[name] = own[:kept]
        self._give_back([own[kept:]], f"free what a request has from {kept} on", start=kept, segments=segments)
        if not kept:
            del self.pages.owned[name]

    def clear(self) -> None:
        """All requests are gone: ``clear``."""
        self._do("allocator.clear()", self._allocator.clear)
        self.pages.owned.clear()
        self.count("allocator.clear()")

    def back_up(self) -> Callable[[], None]:
        """Keep what is free (``backup_state``); what is given brings it back (``restore_state``)."""
        state = self._do("allocator.backup_state()", self._allocator.backup_state)
        owned = {name: list(slots) for name, slots in self.pages.owned.items()}

        def restore() -> None:
            call = "allocator.restore_state(<what backup_state gave>)"
            self._do(call, lambda: self._allocator.restore_state(state))
            self.pages.owned.clear()
            self.pages.owned.update(owned)
            self.count(call)

        return restore

    def count(self, after: str) -> None:
        """Fail unless ``available_size`` is the number of slots that are in nobody's page."""
        call = f"{after}; allocator.available_size()"
        said = self._do(call, self._allocator.available_size)
        cause = "SGLang admits requests by this number: too high, and it runs out midway; too low, and slots are lost"
        expect.equal(int(said), self.pages.free * self.pages.size, call=call, where=self._where, cause=cause)

    def slots(self, numbers: Sequence[int]) -> Any:
        """Slots as a tensor on the device."""
        return self._tensor(numbers)

    def _give_back(
        self, taken: Sequence[Sequence[int]], what: str, *, start: int = 0, together: bool = False, segments: bool
    ) -> None:
        call = f"{what}{' by free_segment' if segments else ''}{' in a group' if together else ''}"
        allocator = self._allocator

        def free() -> None:
            if together:
                allocator.free_group_begin()
            for slots in taken:
                if segments:
                    allocator.free_segment(self._tensor(slots), start_pos=start)
                else:
                    allocator.free(self._tensor(slots, narrow=not together))
            if together:
                allocator.free_group_end()

        self._do(call, free)
        self.count(call)

    def _ask_for_any(self, growth: Mapping[str, int]) -> None:
        wanted = sum(growth.values())
        self._ask("alloc", str(wanted), (wanted,), growth)

    def _ask(self, method: str, told: str, given: Sequence[Any], growth: Mapping[str, int]) -> None:
        call = f"allocator.{method}({told})"
        ask: Callable[..., Any] = getattr(self._allocator, method)
        seen = self._do(call, lambda: ask(*given))
        answer = expect.Answer(seen, call, self._where)
        fits = self.pages.needed(growth) <= self.pages.free
        if seen is None:
            free = f"{self.pages.free} pages of {self.pages.size} are free, {self.pages.needed(growth)} are needed"
            expect.that(not fits, expected="slots", seen=f"None: {free}", answer=answer)
            self.count(call)
            return
        expect.that(fits, expected="None: the pages do not suffice", seen=expect.show(seen), answer=answer)
        whole = not getattr(seen, "is_floating_point", lambda: True)()
        expect.that(whole, expected="a tensor of whole numbers", seen=expect.show(seen), answer=answer)
        wrong = self.pages.take(growth, [int(slot) for slot in seen.cpu().tolist()])
        cause = f"what {MEMBER}() gives hands out slots as SGLang's own PagedTokenToKVPoolAllocator does"
        expect.that(not wrong, expected="the next slots of each request", seen=wrong, cause=cause, answer=answer)
        self.count(call)

    def _do(self, call: str, action: Callable[[], Any]) -> Any:
        return parts.attempt(call, action, where=self._where)

    def _last(self, names: Any, *, narrow: bool = False) -> Any:
        return self._tensor([self.pages.last(name) for name in names], narrow=narrow)

    def _tensors(self, numbers: Any) -> tuple[Any, Any]:
        """The numbers on the device, and on the host."""
        listed = list(numbers)
        import torch

        return self._tensor(listed), torch.tensor(listed, dtype=torch.int64)

    def _tensor(self, numbers: Sequence[int], *, narrow: bool = False) -> Any:
        import torch

        return torch.tensor(numbers, dtype=torch.int32 if narrow else torch.int64, device=self._device)
