"""Where keys and values are written: plain slots, or slots with what hybrid pools want besides.

Facts: srt/mem_cache/memory_pool.py of SGLang 0.5.14, 0.5.15 and 0.5.22.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from .._contract import since
from .._released import Lifetime
from ._placing import placed

_BATCH = Lifetime("0.5.22")


@placed("memory_pool", for_batch=_BATCH, for_layer=_BATCH)
@dataclass
class KVWriteLoc:
    """The slots of a batch's tokens, and those in the pool of the sliding window or of full attention."""

    loc: torch.Tensor
    swa_loc: torch.Tensor | None = None
    if since("0.5.15"):
        full_loc: torch.Tensor | None = None
    if since("0.5.22"):
        physical: bool = False

    def __post_init__(self) -> None:
        """Narrow the others to as many tokens as ``loc`` has."""
        for name in ("swa_loc", "full_loc"):
            other = vars(self).get(name)
            if other is not None:
                setattr(self, name, other[: self.loc.shape[0]])

    @classmethod
    def for_batch(
        cls, forward_batch: Any, *, swa_loc: torch.Tensor | None = None, full_loc: torch.Tensor | None = None
    ) -> KVWriteLoc:
        """Where the batch writes."""
        return cls(forward_batch.out_cache_loc, swa_loc, full_loc, physical=forward_batch.out_cache_loc_is_physical)

    @classmethod
    def for_layer(
        cls,
        forward_batch: Any,
        layer: Any,
        *,
        swa_loc: torch.Tensor | None = None,
        full_loc: torch.Tensor | None = None,
    ) -> KVWriteLoc:
        """Where the batch writes what this layer gives; a layer of cross attention writes for the encoder."""
        if layer.is_cross_attention:
            return cls(forward_batch.encoder_out_cache_loc, swa_loc, full_loc)
        return cls.for_batch(forward_batch, swa_loc=swa_loc, full_loc=full_loc)


class Slots(NamedTuple):
    """Slots in the pool of full attention, and in that of the sliding window where they are known already."""

    full: torch.Tensor
    window: torch.Tensor | None


def slots_of(loc_info: Any) -> Slots:
    """The slots that a ``KVWriteLoc``, or a bare tensor, says."""
    if not isinstance(loc_info, KVWriteLoc):
        return Slots(loc_info, None)
    full = vars(loc_info).get("full_loc")
    return Slots(loc_info.loc if full is None else full, loc_info.swa_loc)
