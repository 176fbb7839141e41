"""What is looked for in a tree of tokens: tokens, and the name of the space that they are in.

Facts: srt/mem_cache/radix_cache.py of SGLang 0.5.11, 0.5.14, 0.5.18 and 0.5.20.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ._placing import placed

_AT = Lifetime("0.5.20")


@placed("radix_cache", match_at=_AT, child_key_at=_AT)
class RadixKey(Partial):
    """The first ``limit`` of ``token_ids``; keys of another ``extra_key`` or ``cache_salt`` have nothing in common."""

    @released(Parameters({"limit": Lifetime("0.5.14"), "cache_salt": Lifetime("0.5.18")}))
    def __init__(
        self,
        token_ids: Sequence[int],
        extra_key: str | None = None,
        is_bigram: bool = False,
        limit: int | None = None,
        cache_salt: str | None = None,
    ) -> None:
        if is_bigram:
            raise not_covered("keys of pairs of tokens (EAGLE)")
        self.token_ids = token_ids if limit is None else token_ids[:limit]
        self.extra_key = extra_key
        self.is_bigram = is_bigram
        self.cache_salt = cache_salt or None

    def __len__(self) -> int:
        return len(self.token_ids)

    def __iter__(self) -> Iterator[int]:
        return iter(self.token_ids)

    def __getitem__(self, idx: int | slice) -> RadixKey:
        part = RadixKey(self.token_ids[idx] if isinstance(idx, slice) else [self.token_ids[idx]], self.extra_key)
        part.cache_salt = self.cache_salt
        return part

    def __repr__(self) -> str:
        return f"RadixKey({list(self.token_ids[:10])}, {len(self)} tokens, extra_key={self.extra_key!r})"

    def page_aligned(self, page_size: int) -> RadixKey:
        """The whole pages of it."""
        return self[: len(self) // page_size * page_size]

    def maybe_to_bigram_view(
        self, is_eagle: bool, value: torch.Tensor | None = None
    ) -> tuple[RadixKey, torch.Tensor | None]:
        """Itself, and its slots; NotCovered for pairs of tokens."""
        if is_eagle:
            raise not_covered("keys of pairs of tokens (EAGLE)")
        return self, value

    def match(self, other: RadixKey, page_size: int = 1) -> int:
        """How many tokens both begin with, in whole pages; ValueError for keys of different spaces."""
        return common_length(self, other, 0, page_size)

    def match_at(self, other: RadixKey, offset: int, page_size: int = 1) -> int:
        """How many tokens it begins with that ``other`` has from ``offset`` on, in whole pages."""
        return common_length(self, other, offset, page_size)

    def child_key(self, page_size: int = 1) -> Any:
        """What a node of its first page is found by."""
        return page_of(self, 0, page_size)

    def child_key_at(self, offset: int, page_size: int = 1) -> Any:
        """What a node of its page from ``offset`` on is found by."""
        return page_of(self, offset, page_size)


def common_length(key: RadixKey, other: RadixKey, offset: int, page_size: int) -> int:
    """How many tokens ``key`` begins with that ``other`` has from ``offset`` on, in whole pages."""
    if (key.extra_key, key.cache_salt) != (other.extra_key, other.cache_salt):
        raise ValueError(f"keys of different spaces: {key.extra_key!r} and {other.extra_key!r}")
    most = min(len(key), len(other) - offset)
    differ = (at for at in range(most) if key.token_ids[at] != other.token_ids[offset + at])
    return next(differ, most) // page_size * page_size


def page_of(key: RadixKey, offset: int, page_size: int) -> Any:
    """What a node is found by that begins with the key's page from ``offset`` on."""
    page = tuple(key.token_ids[offset : offset + page_size])
    plain = page[0] if page_size == 1 else page
    if key.cache_salt is not None:
        return (key.extra_key, key.cache_salt), plain
    return plain if key.extra_key is None else (key.extra_key, plain)
