"""Legs of the journey on the ranks of a check: served once in each process, and then looked at by many checks.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from ...hosts import serving as host
from ...journey.checkpoints import Checkpoint
from ...journey.leg import Leg, Request
from ...journey.serve import Seat, Serving, server, standard
from ...journey.served import Served
from .. import expect
from ..aids import holdings
from ..member import Member
from . import blaming

MODELS = ("llama", "latent", "mixtral")
PAGED = (("page_size", 16),)
_TRIES = 5


@dataclass(frozen=True)
class _Turn:
    """A leg to serve, and who serves it: as a key, the leg alone."""

    leg: Leg
    requests: tuple[Request, ...]
    member: Any = field(compare=False)


def served(member: Member, leg: Leg, requests: Sequence[Request] = ()) -> Served:
    """What came of a leg on this rank; the usual requests where none are given. A violation where serving fails.

    All ranks of the group must call it alike.
    """
    return _served(_Turn(leg, tuple(requests), member))


def again_and_again(member: Member) -> tuple[Served, Served, Served]:
    """What came of the usual requests, of the same once more, and of the last coming first: all by one server."""
    return _again(_Turn(Leg("llama", arguments=PAGED), (), member))


@contextmanager
def serving(member: Member, leg: Leg, *, watched: bool = True) -> Iterator[Serving]:
    """The leg's server on this rank, for requests of the check's own."""
    with _seat(member) as seat, server(leg, seat) as made:
        yield Serving(made, leg, member.number, watched=watched)


def tensors_of(checkpoint: Checkpoint) -> list[tuple[str, Any]]:
    """The weights, by their names, as tensors of the host."""
    import torch

    return [(name, torch.tensor(weight)) for name, weight in checkpoint.weights().items()]


@lru_cache(maxsize=64)
def _served(turn: _Turn) -> Served:
    with blaming.asking() as asked:
        try:
            with serving(turn.member, turn.leg) as made:
                found = made.serve(turn.requests or standard(turn.leg))
                return replace(found, elsewhere=holdings.elsewhere(turn.member.device))
        except Exception as error:
            asked.tell(error, f"serving {turn.leg}")


@lru_cache(maxsize=4)
def _again(turn: _Turn) -> tuple[Served, Served, Served]:
    usual = standard(turn.leg)
    backwards = [replace(request, arrives=len(usual) - 1 - number) for number, request in enumerate(usual)]
    with blaming.asking() as asked:
        try:
            with serving(turn.member, turn.leg) as made:
                first, second, third = (made.serve(requests) for requests in (usual, usual, backwards))
                return first, second, third
        except Exception as error:
            asked.tell(error, f"serving {turn.leg}, three times")


@contextmanager
def _seat(member: Member) -> Iterator[Seat]:
    """The rank's seat; the first rank says at which port all meet, and listens there before anybody comes.

    SGLang's own store finds that of its process. A rank that came before it would try again half a second later.
    """
    store = _listening() if member.number == 0 else None
    port = member.side.to_all(0 if store is None else store.port)[0]
    yield Seat(member.number, member.device.type, member.device.index or 0, port)


def _listening() -> Any:
    """A store of torch's at a port that the system chooses, which listens for as long as it is held, and which others
    of this process find there.

    Torch keeps the first store that this process had at a port in mind, though it is gone. Where the system chooses
    that port again, the new store is not found; looking for it has torch forget the old one.
    """
    from torch.distributed import DistNetworkError, TCPStore  # type: ignore[attr-defined]

    for _ in range(_TRIES):
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, multi_tenant=True)
        with contextlib.suppress(DistNetworkError):
            TCPStore("127.0.0.1", store.port, is_master=True, wait_for_workers=False, multi_tenant=True)
            return store
    raise RuntimeError(f"{_TRIES} times, a store of torch's was not found at its own port")


def each(legs: Collection[Leg], judge: Callable[[Leg], object]) -> str:
    """Judge each leg, and tell what is said of each; what keeps one from being judged is raised once the others are.

    A leg that is not served here is told of: there are requirements on its tokens alone, which are then not run.
    NotServed where none of them is served.
    """
    said: list[object] = []
    unserved: list[host.NotServed] = []
    elsewhere: list[expect.NotReached] = []
    for leg in legs:
        try:
            said.append(judge(leg))
        except host.NotServed as reason:
            unserved.append(reason)
            said.append(f"{leg}: not seen: {reason}")
        except expect.NotReached as reason:
            elsewhere.append(reason)
    if elsewhere:
        raise elsewhere[0]
    if unserved and len(unserved) == len(legs):
        raise unserved[0]
    return "; ".join(each for each in said if isinstance(each, str))


def must_be_there(reason: str) -> None:
    """NotCovered: the host serves nothing here, for that reason."""
    raise host.NotCovered(reason)
