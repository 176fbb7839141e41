"""A dictionary of tensors and other values, as pipeline stages pass it on: SGLang sends the tensors apart.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import expect
from . import tensors
from .judging import Verdict
from .parts import Parts

if TYPE_CHECKING:
    from ..member import Member


@dataclass(frozen=True)
class Dictionary:
    """What each rank sends: its part on the device, the same on the ``host``, an empty tensor, and values besides."""

    parts: Parts
    thing: Any
    host: bool = True

    def of(self, rank: int, device: Any) -> dict[str, Any]:
        """One rank's dictionary."""
        import torch

        dtype = self.parts.dtype
        on_host = tensors.made(self.parts.of(rank), dtype, torch.device("cpu"))
        return {
            "first": rank,
            "device": tensors.made(self.parts.of(rank), dtype, device),
            "thing": self.thing,
            **({"host": on_host} if self.host else {}),
            "empty": tensors.poisoned((0, 3), dtype, device),
            "nested": {"rank": rank, "thing": self.thing},
        }

    def judge(self, verdict: Verdict, got: Any, rank: int, member: Member, call: str) -> None:
        """That it is a rank's dictionary, each tensor where it belongs."""
        import torch

        wanted = self.of(rank, torch.device("cpu"))
        keys = sorted(got) if isinstance(got, dict) else expect.show(got)
        verdict.equal(keys, sorted(wanted), call=f"{call}: the keys")
        if keys != sorted(wanted):
            return
        for key in ("first", "thing", "nested"):
            verdict.equal(got[key], wanted[key], call=f"{call}: {key!r}")
        places = {"device": member.device.type, "host": "cpu", "empty": member.device.type}
        for key, device in places.items():
            if key not in wanted:
                continue
            if key != "empty":
                verdict.moved(got[key], self.parts, rank, f"{call}: {key!r}")
            where = getattr(getattr(got[key], "device", None), "type", None)
            verdict.equal(where, device, call=f"{call}: the device of {key!r}")
        seen = f"{str(got['empty'].dtype).removeprefix('torch.')} {list(got['empty'].shape)}"
        verdict.equal(seen, f"{self.parts.dtype} [0, 3]", call=f"{call}: 'empty'")

    def words(self) -> str:
        """What is in it, for people."""
        where = "on the device and on the host" if self.host else "on the device"
        return f"{self.parts.words()} {where}, an empty tensor and other values"
