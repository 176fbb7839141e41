"""``sglang.srt.speculative.spec_info``: the kinds of speculative decoding, and which worker a platform has for them.

The workers themselves are not here: asked for one, SGLang's own is refused. Facts: SGLang 0.5.11, 0.5.16, 0.5.21 and
0.5.23, srt/speculative/spec_info.py.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from sglang_reference._errors import not_covered

from .. import platforms
from .._contract import since

__all__ = ["SpeculativeAlgorithm"]


class SpeculativeAlgorithm(Enum):
    """How tokens are drafted, if they are."""

    DFLASH = auto()
    if since("0.5.21"):
        UNO = auto()
    if since("0.5.16"):
        DSPARK = auto()
    EAGLE = auto()
    EAGLE3 = auto()
    if since("0.5.13"):
        FROZEN_KV_MTP = auto()
    STANDALONE = auto()
    NGRAM = auto()
    NONE = auto()

    @classmethod
    def from_string(cls, name: str | None) -> SpeculativeAlgorithm:
        """The algorithm of that name, in any case; NONE for None. ValueError for a name that is none."""
        if name is None:
            return cls.NONE
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"Unknown speculative algorithm name: {name}") from None

    def is_none(self) -> bool:
        """Whether nothing is drafted."""
        return self is SpeculativeAlgorithm.NONE

    def is_speculative(self) -> bool:
        """Whether something is."""
        return not self.is_none()

    def is_eagle(self) -> bool:
        """Whether by EAGLE or its relatives."""
        return self.name in ("EAGLE", "EAGLE3", "FROZEN_KV_MTP")

    def is_eagle3(self) -> bool:
        """Whether by EAGLE3."""
        return self.name == "EAGLE3"

    def is_dflash(self) -> bool:
        """Whether by DFLASH."""
        return self.name == "DFLASH"

    def is_standalone(self) -> bool:
        """Whether by a model of its own."""
        return self.name == "STANDALONE"

    def is_ngram(self) -> bool:
        """Whether by what came before in the text."""
        return self.name == "NGRAM"

    if since("0.5.16"):

        def is_dflash_family(self) -> bool:
            """Whether by DFLASH or a relative."""
            return self.name in ("DFLASH", "DSPARK", "UNO")

    if since("0.5.23"):

        def get_platform_worker_cls(self) -> type | None:
            """The worker that an out-of-tree platform has for the algorithm; None where there is none."""
            platform = platforms.current_platform
            if not platform.is_out_of_tree():
                return None
            worker: type | None = platform.get_speculative_worker_cls(algorithm=self.name)
            return worker

    def create_worker(self, server_args: Any) -> type:
        """The worker's class: the platform's own, asked from 0.5.23 on. NotCovered where it would be SGLang's."""
        assert not self.is_none(), "there is no worker where nothing is drafted"
        worker = self.get_platform_worker_cls() if since("0.5.23") else None
        if worker is not None:
            return worker
        raise not_covered(f"SGLang's worker for speculative decoding by {self.name}")
