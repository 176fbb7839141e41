"""A rank as a check meets it, and the jobs that its process runs for the suite.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ..hosts import groups, serving
from ..probes.server import Probe
from ..ranks.rank import Rank
from ..ranks.store import store_of
from . import expect
from .aids import worker
from .execute import Stage, call, resolve_platform
from .side import Side

_SCHEME = "sglang-conformance"
T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """One rank of a group, with its device made current and nothing else done, or with the host's groups made.

    ``number`` of ``size``, ``local`` on its machine, as SGLang counts there: by devices; ``device`` is the torch device
    that the platform names for it, ``backend`` what SGLang chooses for that device, ``seconds`` the time that a check
    has. ``joined``: the host's groups are made, with tensor parallelism over all ranks. ``side`` is how the ranks
    speak beside what they check. ``served`` notes of each call that a platform may refuse whether it was served: all
    ranks must say the same.
    ``kept`` ends when the check has run its last case.
    """

    number: int
    size: int
    local: int
    device: Any
    backend: str
    address: str
    meeting: str
    seconds: float
    joined: bool
    side: Side
    served: list[bool] = field(default_factory=list, init=False)
    kept: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)
    _things: dict[Hashable, Any] = field(default_factory=dict, init=False)
    _meetings: Iterator[int] = field(default_factory=itertools.count, init=False)

    @property
    def coordinator(self) -> Any:
        """The host's coordinator of all ranks, tensor parallelism's."""
        return groups.group("tp")

    @property
    def group(self) -> Any:
        """That coordinator's group on the platform's backend."""
        return self.coordinator.device_group

    def note(self, served: bool) -> None:
        """Note of a call that a platform may refuse whether it was served; True also where others were judged too."""
        self.served.append(served)

    def keep(self, name: Hashable, make: Callable[[], AbstractContextManager[T]]) -> T:
        """What ``make`` gives, entered once, and left when the check has run its last case."""
        if name not in self._things:
            self._things[name] = self.kept.enter_context(make())
        thing: T = self._things[name]
        return thing

    def method(self) -> str:
        """An ``init_method`` at which the ranks meet, another one at each call; all ranks call it equally often."""
        return f"{_SCHEME}://{self.address}/{self.meeting}.{self.side.check}.{next(self._meetings)}"

    def join(self, *, timeout: int | None = None, **sizes: int) -> None:
        """Make the host's groups, as SGLang's worker does: of these sizes, by the names of the layouts' oracle.

        ``timeout`` in whole seconds, the check's own where it is not given.
        """
        groups.join(
            rank=self.number,
            size=self.size,
            local_rank=self.local,
            method=self.method(),
            backend=self.backend,
            timeout=timeout or max(1, int(self.seconds)),
        )
        groups.lay_out(**sizes)


def stand_ready(probe: Probe) -> tuple[Stage, None]:
    """Warm: what the host's groups need is imported."""
    groups.load()
    return probe.state, None


def stand_ready_to_serve(probe: Probe) -> tuple[Stage, None]:
    """Warm: what serves models is imported too, and what they should give is made ready to be computed; or it is known
    why nothing serves here, which the forks of this process remember.
    """
    from ..journey.leg import Leg
    from .serving.legs import MODELS

    with contextlib.suppress(serving.NotServed):
        serving.load()
        for model in MODELS:
            _ = Leg(model).decoder
    return probe.state, None


def devices(probe: Probe, entering: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How many devices there are for ranks: None of the CPU, which all share. ``entering`` as for :func:`prepare`."""
    stage = probe.state if entering is None else resolve_platform(probe, **entering)[0]
    found = worker.devices(stage.platform)
    return {"count": None if found[0].type == "cpu" else len(found)}


def prepare(rank: Rank, address: str, joined: bool, seconds: float, entering: Mapping[str, Any] | None) -> Any:
    """Make a rank ready: the device started and made current, and (``joined``) the host's groups made.

    ``entering`` is what it takes to resolve the platform, where that cannot be done before the fork.
    """
    stage: Stage = rank.state
    if entering is not None:
        stage, _ = resolve_platform(Probe(None, lambda text: None), **entering)
    _meet_by_store(seconds)
    platform = stage.platform
    device = _device(platform, rank.local)
    worker.make_current(platform, device)
    backend = groups.state().get_default_distributed_backend(device.type)
    local = rank.local if device.index is None else int(device.index)
    side = Side(store_of(address, rank.meeting, seconds), rank.number, rank.size, seconds, rank.check)
    member = Member(rank.number, rank.size, local, device, backend, address, rank.meeting, seconds, joined, side)
    if joined:
        member.join(tp=rank.size)
    return stage, member


def run(
    rank: Rank, module: str, name: str, cases: Sequence[Mapping[str, Any]], deadline: float, watched: bool
) -> dict[str, Any]:
    """Run a check's body on this rank, for one case after the other; what it found in the last.

    ``served``: of each call that may be refused, whether it was served.
    """
    stage, prepared = rank.state
    member = replace(prepared, side=replace(prepared.side, check=rank.check))
    body = getattr(importlib.import_module(module), name)
    given = {**vars(stage), "member": member, "deadline": deadline}
    found: dict[str, Any] = {}
    with contextlib.nullcontext() if watched else rank.unwatched(), member.kept:
        for number, case in enumerate(cases):
            rank.reach(number)
            found = call(_inner(body), {**given, **case})
            if found["outcome"] != "pass":
                break
    return {**found, "served": member.served}


def _inner(body: Any) -> Any:
    """The function that hypothesis calls with what it has drawn; the controller draws for all ranks."""
    handle = getattr(body, "hypothesis", None)
    return body if handle is None else handle.inner_test


def _device(platform: Any, number: int) -> Any:
    """The device of a rank, as the platform names it (0.5.23, srt/utils/common.py: get_device)."""
    import torch

    found = worker.devices(platform)
    if found[0].type == "cpu":
        return found[0]
    index = number % len(found)  # ranks share devices only where they were asked to
    answer = expect.ask(platform, "get_device", index)
    named = expect.attempt(f"torch.device({answer.value!r})", lambda: torch.device(answer.value)).value
    return named if named.index is not None else torch.device(named.type, index)


def _meet_by_store(seconds: float) -> None:
    """Let torch meet at addresses of our scheme: at the group's own part of the store."""
    rendezvous = importlib.import_module("torch.distributed.rendezvous")

    def at_store(url: str, **_: Any) -> Iterator[tuple[Any, int, int]]:
        from urllib.parse import parse_qs, urlparse

        place = urlparse(url)
        given = {name: int(values[0]) for name, values in parse_qs(place.query).items()}
        store = store_of(place.netloc, place.path, seconds)
        yield store, given["rank"], given["world_size"]
        raise RuntimeError("ranks meet once; a group that has lost members is made anew")

    if _SCHEME not in rendezvous._rendezvous_handlers:
        rendezvous.register_rendezvous_handler(_SCHEME, at_store)
