"""An allocator of slots, asked as SGLang's core asks it, and held against plain numbers.

The core's calls are by position (0.5.11 srt/mem_cache/common.py, 0.5.23 srt/mem_cache/allocation.py).

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...oracles.pages import Pages
from .. import expect

MEMBER = "get_paged_allocator_cls"


class Asked:
    """An allocator, and who has its slots by what it has answered."""

    def __init__(self, allocator: Any, device: Any) -> None:
        self._allocator = allocator
        self._device = device
        size = int(allocator.page_size)
        self.pages = Pages(int(allocator.size) // size, size)
        self._where = expect.place(type(allocator))

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
        self._ask("alloc_decode", f"lengths {told}", (*grown, self._last(names)), dict.fromkeys(names, 1))

    def end(self, names: Sequence[str], *, together: bool = False) -> None:
        """These requests are done: ``free``; ``together`` in one group, as at the end of a batch."""
        call = f"allocator.free(the slots of {len(names)} requests{', in a group' if together else ''})"
        allocator = self._allocator

        def free() -> None:
            if together:
                allocator.free_group_begin()
            for name in names:
                allocator.free(self._tensor(self.pages.drop([name])))
            if together:
                allocator.free_group_end()

        expect.attempt(call, free, where=self._where)
        self.count(call)

    def clear(self) -> None:
        """All requests are gone: ``clear``."""
        expect.attempt("allocator.clear()", self._allocator.clear, where=self._where)
        self.pages.owned.clear()
        self.count("allocator.clear()")

    def count(self, after: str) -> None:
        """Fail unless ``available_size`` is the number of slots that are in nobody's page."""
        call = f"{after}; allocator.available_size()"
        said = expect.attempt(call, self._allocator.available_size, where=self._where)
        cause = "SGLang admits requests by this number: too high, and it runs out midway; too low, and slots are lost"
        expect.equal(int(said.value), self.pages.free * self.pages.size, call=call, where=self._where, cause=cause)

    def _ask_for_any(self, growth: Mapping[str, int]) -> None:
        wanted = sum(growth.values())
        self._ask("alloc", str(wanted), (wanted,), growth)

    def _ask(self, method: str, told: str, given: Sequence[Any], growth: Mapping[str, int]) -> None:
        call = f"allocator.{method}({told})"
        ask: Callable[..., Any] = getattr(self._allocator, method)
        answer = expect.attempt(call, lambda: ask(*given), where=self._where)
        fits = self.pages.needed(growth) <= self.pages.free
        if answer.value is None:
            free = f"{self.pages.free} pages of {self.pages.size} are free, {self.pages.needed(growth)} are needed"
            expect.that(not fits, expected="slots", seen=f"None: {free}", answer=answer)
            self.count(call)
            return
        seen = answer.value
        expect.that(fits, expected="None: the pages do not suffice", seen=expect.show(seen), answer=answer)
        whole = not getattr(seen, "is_floating_point", lambda: True)()
        expect.that(whole, expected="a tensor of whole numbers", seen=expect.show(seen), answer=answer)
        wrong = self.pages.take(growth, [int(slot) for slot in seen.cpu().tolist()])
        cause = f"what {MEMBER}() gives hands out slots as SGLang's own PagedTokenToKVPoolAllocator does"
        expect.that(not wrong, expected="the next slots of each request", seen=wrong, answer=answer, cause=cause)
        self.count(call)

    def _last(self, names: Any) -> Any:
        return self._tensor([self.pages.last(name) for name in names])

    def _tensors(self, numbers: Any) -> tuple[Any, Any]:
        """The numbers on the device, and on the host."""
        listed = list(numbers)
        import torch

        return self._tensor(listed), torch.tensor(listed, dtype=torch.int64)

    def _tensor(self, numbers: Sequence[int]) -> Any:
        import torch

        return torch.tensor(numbers, dtype=torch.int64, device=self._device)
