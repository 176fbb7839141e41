"""A tree of tokens: what sequences begin with, page by page, and the slots of it.

Facts: srt/mem_cache/radix_cache.py of SGLang 0.5.11, 0.5.18 and 0.5.23. Nodes are as old as their last use, by a count
and not by a clock, so that the same calls evict the same slots.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ._placing import placed
from ._radix_key import RadixKey, common_length, page_of


@placed("radix_cache")
class TreeNode:
    """Tokens that follow those of the parent, and their slots; ``lock_ref`` counts who holds it."""

    counter = 0

    def __init__(self, id: int | None = None, priority: int = 0) -> None:
        self.children: dict[Any, TreeNode] = {}
        self.parent: TreeNode | None = None
        self.key: RadixKey = RadixKey([])
        self.value: torch.Tensor | None = None
        self.lock_ref = 0
        self.hit_count = 0
        self.priority = priority
        self.last_access_time = self.creation_time = 0.0
        self.id = TreeNode.counter if id is None else id
        TreeNode.counter += 1

    @property
    def evicted(self) -> bool:
        """Whether it has no slots."""
        return self.value is None

    def __lt__(self, other: TreeNode) -> bool:
        return self.last_access_time < other.last_access_time


ORDERS: dict[str, Callable[[TreeNode], Any]] = {
    "lru": lambda node: node.last_access_time,
    "lfu": lambda node: (node.hit_count, node.last_access_time),
    "fifo": lambda node: node.creation_time,
    "mru": lambda node: -node.last_access_time,
    "filo": lambda node: -node.creation_time,
    "priority": lambda node: (node.priority, node.last_access_time),
}
"""What is evicted first: the leaves for which this is least."""


class RadixTree:
    """The tree, in which every node is of whole pages; ``device`` is where slots are kept."""

    def __init__(self, page_size: int, device: torch.device, policy: str) -> None:
        self.page_size = page_size
        self.nothing = torch.empty((0,), dtype=torch.int64, device=device)
        self.order = ORDERS[policy]
        self.reset()

    def reset(self) -> None:
        """Keep nothing."""
        self.root = TreeNode()
        self.root.value = self.nothing
        self.root.lock_ref = 1
        self.evictable = self.protected = 0
        self._clock = itertools.count(1)

    def match(self, key: RadixKey) -> tuple[int, TreeNode]:
        """How much of a key is kept, and the node that this ends in; a node that it ends within is split."""
        now, node, done = float(next(self._clock)), self.root, 0
        node.last_access_time = now
        while len(key) - done >= self.page_size:
            child = node.children.get(page_of(key, done, self.page_size))
            if child is None:
                break
            child.last_access_time = now
            same = common_length(child.key, key, done, self.page_size)
            done += same
            node = child if same == len(child.key) else self._split(child, same)
            if node is not child:
                break
        return done, node

    def insert(
        self, key: RadixKey, value: torch.Tensor, priority: int = 0, *, hit: bool = True
    ) -> tuple[int, TreeNode]:
        """Keep a key of whole pages; how much of it was kept already, and the node that it ends in.

        ``hit`` says whether nodes that are met count one more use.
        """
        done, node = self.match(key)
        for each in self._path(node):
            each.priority = max(each.priority, priority)
            each.hit_count += hit
        if done < len(key):
            leaf = TreeNode(priority=priority)
            leaf.parent, leaf.key, leaf.value = node, key[done:], value[done:].clone()
            leaf.last_access_time = leaf.creation_time = float(next(self._clock))
            leaf.hit_count = int(hit)
            node.children[page_of(leaf.key, 0, self.page_size)] = leaf
            self.evictable += len(leaf.key)
            node = leaf
        return done, node

    def lock(self, node: TreeNode) -> int:
        """Hold a node and all before it; by how many slots what can be evicted has grown."""
        return self._hold(node, 1)

    def unlock(self, node: TreeNode) -> int:
        """Let go of a node and all before it; by how many slots what can be evicted has grown."""
        return self._hold(node, -1)

    def _hold(self, node: TreeNode, by: int) -> int:
        grown = 0
        for each in self._path(node):
            was_held = each.lock_ref > 0
            each.lock_ref += by
            assert each.lock_ref >= 0, f"node {each.id} was let go of more often than it was held"
            grown += len(each.key) * (was_held - (each.lock_ref > 0))
        self.evictable += grown
        self.protected -= grown
        return grown

    def evict(self, number: int, free: Callable[[torch.Tensor], None]) -> int:
        """Give leaves that nobody holds to ``free``, whole, until that is ``number`` slots; how many it is."""
        heap = [(self.order(node), node) for node in self.nodes() if not node.children and not node.lock_ref]
        heapq.heapify(heap)
        evicted = 0
        while evicted < number and heap:
            _, leaf = heapq.heappop(heap)
            assert leaf.value is not None
            assert leaf.parent is not None
            free(leaf.value)
            evicted += len(leaf.value)
            self.evictable -= len(leaf.key)
            parent = leaf.parent
            del parent.children[page_of(leaf.key, 0, self.page_size)]
            if not parent.children and not parent.lock_ref:
                heapq.heappush(heap, (self.order(parent), parent))
        return evicted

    def slots(self, node: TreeNode) -> torch.Tensor:
        """The slots of all tokens up to the end of a node."""
        values = [each.value for each in self._path(node) if each.value is not None]
        return torch.cat(values[::-1]) if values else self.nothing

    def nodes(self) -> Iterator[TreeNode]:
        """Every node but the root."""
        waiting = list(self.root.children.values())
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())

    def _path(self, node: TreeNode) -> Iterator[TreeNode]:
        """A node and all before it, without the root."""
        while node is not self.root:
            yield node
            assert node.parent is not None, "the node is of another tree, or of one that was reset"
            node = node.parent

    def _split(self, child: TreeNode, length: int) -> TreeNode:
        """Make two of a node: one of its first tokens, which is given, and itself after it."""
        assert child.value is not None
        first = TreeNode(priority=child.priority)
        first.parent, first.lock_ref, first.hit_count = child.parent, child.lock_ref, child.hit_count
        first.last_access_time = first.creation_time = float(next(self._clock))
        assert first.parent is not None
        first.parent.children[page_of(child.key, 0, self.page_size)] = first
        first.key, child.key = child.key[:length], child.key[length:]
        first.value, child.value = child.value[:length].clone(), child.value[length:].clone()
        first.children[page_of(child.key, 0, self.page_size)] = child
        child.parent = first
        return first
