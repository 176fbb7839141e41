"""What a pool holds, beside what it was given: plain rows of numbers by layer and slot.

The numbers are eighths of small whole ones, which every type of numbers here holds: what comes back is to be equal.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from .. import expect
from .made_pools import HEADS, LATENT, ROTARY, WIDTH, Form, Made, layer

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Write:
    """Some tokens of one layer: their slots, and whether they come as part of a wider tensor, as after a projection."""

    layer: int
    slots: tuple[int, ...]
    part: bool = False


@dataclass
class Contents:
    """A pool, and what each slot of each layer was given last."""

    made: Made
    device: Any
    rows: dict[tuple[int, int], tuple[Any, Any]] = field(default_factory=dict)
    _turn: int = 0

    @property
    def layers(self) -> range:
        """The layers of this rank, as the whole model numbers them."""
        return range(self.made.form.first, self.made.form.first + self.made.form.layers)

    def write(self, write: Write) -> None:
        """Give the pool keys and values for the layer's tokens (``set_kv_buffer``)."""
        keys, values = self._numbers(write, 1 if self._is_latent else HEADS)
        given = self.made.written("set_kv_buffer", self.indices(write.slots))
        number = self.layers[write.layer]
        pool, call = self.made.pool, f"set_kv_buffer(layer {number}, slots {list(write.slots)})"
        self.made.does(call, lambda: pool.set_kv_buffer(layer(number), given, keys, values))

    def write_apart(self, write: Write) -> None:
        """Give the pool of latent attention both parts of the keys, one by one (``set_mla_kv_buffer``)."""
        keys, _ = self._numbers(write, 1)
        given = self.made.written("set_mla_kv_buffer", self.indices(write.slots))
        number = self.layers[write.layer]
        pool, call = self.made.pool, f"set_mla_kv_buffer(layer {number}, slots {list(write.slots)})"
        latent, rotary = keys[..., :LATENT], keys[..., LATENT:]
        self.made.does(call, lambda: pool.set_mla_kv_buffer(layer(number), given, latent, rotary))

    def copied(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Know that some slots now hold what others held, in every layer."""
        before = dict(self.rows)
        for number in self.layers:
            for source, target in zip(sources, targets, strict=True):
                self.rows.pop((number, target), None)
                if (number, source) in before:
                    self.rows[number, target] = before[number, source]

    def indices(self, slots: Sequence[int]) -> Any:
        """Slots as the core has them: whole numbers on the device."""
        import torch

        return torch.tensor(list(slots), dtype=torch.int64, device=self.device)

    def holds(self, after: str) -> None:
        """Fail unless each layer gives back, for each slot, what it was given last."""
        import torch

        form = self.made.form
        widths = (LATENT + ROTARY, LATENT) if self._is_latent else (WIDTH, self.made.values)
        for number in self.layers:
            slots = sorted(slot for each, slot in self.rows if each == number)
            for nth, (method, width) in enumerate(zip(("get_key_buffer", "get_value_buffer"), widths, strict=True)):
                call = f"{after}; pool.{method}({number})"
                buffer = self.made.does(call, lambda name=method, at=number: getattr(self.made.pool, name)(at))
                self._is_of(buffer, call)
                flat = _by_slot(buffer, (1 if self._is_latent else HEADS, width), form)
                if not slots:
                    continue
                seen = self.made.does(f"{call}[{slots}]", lambda rows=flat, at=slots: rows[self.indices(at)].cpu())
                expected = torch.stack([self.rows[number, slot][nth] for slot in slots])
                self._equal(seen, expected, slots, call)

    def _numbers(self, write: Write, heads: int) -> tuple[Any, Any]:
        """Keys and values on the device; what they are is noted."""
        import torch

        self._turn += 1
        widths = (LATENT + ROTARY, LATENT) if self._is_latent else (WIDTH, self.made.values)
        count, dtype = len(write.slots), getattr(torch, self.made.form.dtype)
        drawn = torch.Generator().manual_seed(self._turn)
        whole = torch.randint(-127, 128, (count, heads * sum(widths) + 8), generator=drawn).to(dtype) / 8
        there = whole.to(self.device)
        cuts = (slice(4, 4 + heads * widths[0]), slice(4 + heads * widths[0], 4 + heads * sum(widths)))
        numbers = [(whole[:, cut], there[:, cut], width) for cut, width in zip(cuts, widths, strict=True)]
        if self._is_latent:  # the values are part of the keys
            numbers[1] = (whole[:, cuts[0]][:, :LATENT], there[:, cuts[0]][:, :LATENT], LATENT)
        known = [own.reshape(count, heads, width) for own, _, width in numbers]
        for nth, slot in enumerate(write.slots):
            self.rows[self.layers[write.layer], slot] = (known[0][nth], known[1][nth])
        keys, values = (part if write.part else part.contiguous() for _, part, _ in numbers)
        return keys.view(count, heads, widths[0]), values.view(count, heads, widths[1])

    def _is_of(self, buffer: Any, call: str) -> None:
        import torch

        told = f"{buffer.dtype} on {buffer.device.type}"
        wanted = f"{getattr(torch, self.made.form.dtype)} on {torch.device(self.device).type}"
        expect.equal(told, wanted, call=f"{self.made.call}; {call}", where=self.made.where)

    def _equal(self, seen: Any, expected: Any, slots: Sequence[int], call: str) -> None:
        wrong = (seen != expected).nonzero()
        if not len(wrong):
            return
        slot, head, place = (int(each) for each in wrong[0])
        found = seen[slot, head, place].item()
        of = [f"layer {key[0]}, slot {key[1]}" for key, rows in self.rows.items() if _has(rows, seen[slot])]
        expect.fail(
            expected=f"{expected[slot, head, place].item():g}, as it was given",
            seen=f"{found:g}{f': what {of[0]} was given' if of else ''}",
            call=f"{self.made.call}; {call}[slot {slots[slot]}, head {head}, {place}]",
            where=self.made.where,
            cause="layers, slots, or keys and values are mixed",
        )

    @property
    def _is_latent(self) -> bool:
        return self.made.form.kind != "mha"


def _by_slot(buffer: Any, tail: tuple[int, int], form: Form) -> Any:
    """A layer's buffer as one row a slot. NotCovered for a layout of the vendor's own, which its attention knows."""
    shape = tuple(buffer.shape)
    if shape[1:] in (tail, (tail[0] * tail[1],)) or shape[1:] == (form.page_size, *tail):
        return buffer.reshape(-1, *tail)
    raise expect.NotCovered(f"the pool has a layout of its own, {list(shape)}: not by slot, heads and dimensions")


def _has(rows: tuple[Any, Any], seen: Any) -> bool:
    return any(row.shape == seen.shape and bool((row == seen).all()) for row in rows)


def forms(kind: str = "mha") -> st.SearchStrategy[Form]:
    """Forms of pools of a kind."""
    values = st.sampled_from([WIDTH, 4]) if kind == "mha" else st.just(WIDTH)
    pages = st.just(64) if kind == "dsa" else st.sampled_from([1, 4, 16])
    return st.builds(
        Form,
        st.just(kind),
        pages,
        st.integers(1, 4),
        st.sampled_from(DTYPES),
        st.sampled_from([0, 3]),
        st.just(2),
        values,
    )


def writes(form: Form, most: int = 6) -> st.SearchStrategy[list[Write]]:
    """What a pool of a form may be given: some tokens of a layer at a time."""
    slots = st.lists(st.sampled_from(form.slots), unique=True, min_size=1, max_size=8).map(tuple)
    return st.lists(st.builds(Write, st.integers(0, form.layers - 1), slots, st.booleans()), min_size=1, max_size=most)
