"""Where the keys and values of sequences are, and attention over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ...model_executor.forward_batch_info import ForwardBatch


class Places(NamedTuple):
    """Of one or several sequences: which of a pass's tokens are theirs, and where each of these looks.

    ``locations``: of every token of the sequences in the pool (sequences by the longest of them). ``positions``: of the
    new tokens in their sequences (sequences by new tokens). ``hidden``: which locations a new token does not see, as
    they stand for what comes after it, or for nothing (sequences by new tokens by locations).
    """

    first: int
    last: int
    locations: torch.Tensor
    positions: torch.Tensor
    hidden: torch.Tensor

    def unseen(self, window: int) -> torch.Tensor:
        """The same, with a window of 0 or more also those that lie further than that before it."""
        if window < 0:
            return self.hidden
        far = _numbers(self.locations) < (self.positions - window).unsqueeze(-1)
        return self.hidden | far


def _numbers(locations: torch.Tensor) -> torch.Tensor:
    return torch.arange(locations.shape[1], device=locations.device)


def of_rows(rows: torch.Tensor, lengths: torch.Tensor) -> Places:
    """One new token for each row of locations, its last; a row is as long as its sequence, and no further looked at.

    What lies beyond is not even read: the first location of a row is in its place.
    """
    beyond = _numbers(rows) >= lengths.unsqueeze(1)
    locations = torch.where(beyond, rows[:, :1], rows).to(torch.int64)
    return Places(0, rows.shape[0], locations, (lengths - 1).unsqueeze(1), beyond.unsqueeze(1))


def of_extended(batch: ForwardBatch, table: torch.Tensor) -> Sequence[Places]:
    """Each sequence that extends, one by one; its places are the first of its row in the table of requests."""
    prefixes, extended = batch.extend_prefix_lens_cpu, batch.extend_seq_lens_cpu
    if prefixes is None or extended is None:
        assert batch.extend_prefix_lens is not None, "no lengths to extend from"
        assert batch.extend_seq_lens is not None, "no lengths to extend by"
        prefixes, extended = batch.extend_prefix_lens.tolist(), batch.extend_seq_lens.tolist()
    found: list[Places] = []
    first = 0
    for row, prefix, length in zip(batch.req_pool_indices.tolist(), prefixes, extended, strict=True):
        places = table[row : row + 1, : prefix + length].to(torch.int64)
        numbers = _numbers(places)
        positions = numbers[prefix:].unsqueeze(0)
        found.append(Places(first, first + length, places, positions, numbers > positions.unsqueeze(-1)))
        first += length
    return found


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, places: Places, layer: Any) -> torch.Tensor:
    """The layer's attention of queries (tokens, heads, width) over what a pool's buffers hold at these places.

    Scores, their softmax and the sum are in float32; heads of queries share one of keys in equal groups.
    """
    sequences, new = places.positions.shape
    shared = layer.tp_k_head_num
    heads = layer.tp_q_head_num
    grouped = queries.reshape(sequences, new, shared, heads // shared, layer.qk_head_dim).permute(0, 2, 3, 1, 4)
    key = keys[places.locations].to(queries.dtype).float().permute(0, 2, 3, 1).unsqueeze(2)
    value = values[places.locations].to(queries.dtype).float().permute(0, 2, 1, 3).unsqueeze(2)
    scores = (grouped.float() @ key) * layer.scaling
    if layer.logit_cap > 0:
        scores = layer.logit_cap * torch.tanh(scores / layer.logit_cap)
    unseen = places.unseen(layer.sliding_window_size)[:, None, None]
    weights = torch.softmax(scores.masked_fill(unseen, float("-inf")), dim=-1)
    attended = (weights @ value).permute(0, 3, 1, 2, 4)
    return attended.reshape(sequences * new, heads, layer.v_head_dim).to(queries.dtype)
