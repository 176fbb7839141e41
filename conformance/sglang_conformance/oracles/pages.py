"""Slots of a paged pool, in plain numbers: who has which, and what an allocator may answer.

A pool has pages of equal size; page 0 is for padding and nobody's. A request has its slots in the order of its tokens:
each stands in its page where its position says, a page belongs to one request, and a page that is not full is filled
before another is begun (SGLang 0.5.11 and 0.5.23, srt/mem_cache/allocator).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Pages:
    """A pool of ``pages`` pages of ``size`` slots, and who has them."""

    pages: int
    size: int
    owned: dict[str, list[int]] = field(default_factory=dict)

    @property
    def free(self) -> int:
        """How many pages nobody has."""
        return self.pages - sum(self.filled(len(slots)) for slots in self.owned.values())

    def filled(self, tokens: int) -> int:
        """How many pages so many tokens of one request fill, the last perhaps in part."""
        return -(-tokens // self.size)

    def needed(self, growth: Mapping[str, int]) -> int:
        """How many new pages it takes that each request grows by so many tokens."""
        return sum(
            self.filled(len(self.owned.get(name, ())) + tokens) - self.filled(len(self.owned.get(name, ())))
            for name, tokens in growth.items()
        )

    def last(self, name: str) -> int:
        """The slot of a request's last token; -1 where it has none."""
        slots = self.owned.get(name)
        return slots[-1] if slots else -1

    def take(self, growth: Mapping[str, int], answer: Sequence[int]) -> str:
        """Give requests the slots that an allocator has answered; says what is wrong with them, if something is."""
        wanted = sum(growth.values())
        if len(answer) != wanted:
            return f"{len(answer)} slots for {wanted} tokens"
        given = iter(answer)
        for name, tokens in growth.items():
            for _ in range(tokens):
                if wrong := self._give(name, next(given)):
                    return wrong
        return ""

    def drop(self, names: Iterable[str]) -> list[int]:
        """Take all slots of some requests back."""
        return [slot for name in names for slot in self.owned.pop(name)]

    def _give(self, name: str, slot: int) -> str:
        own = self.owned.setdefault(name, [])
        page, within = divmod(slot, self.size)
        where = f"slot {slot} for position {len(own)} of request {name}"
        if not 1 <= page <= self.pages:
            return f"{where}: the pool has the slots {self.size} to {(self.pages + 1) * self.size - 1}"
        if within != len(own) % self.size:
            return f"{where}: it stands at {within} in its page, not at {len(own) % self.size}"
        if within and slot != own[-1] + 1:
            return f"{where}: the page is not full, and the next of its slots is {own[-1] + 1}"
        if not within:
            for other, slots in self.owned.items():
                if page in {each // self.size for each in slots}:
                    return f"{where}: page {page} belongs to request {other}"
        own.append(slot)
        return ""
