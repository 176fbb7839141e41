"""Where a rank was started: its number, its machine, and what is installed there.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .. import __version__
from ..probes.result import ZygoteError

_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),  # torchrun, and whoever follows it
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),  # srun
    ("JOB_COMPLETION_INDEX", "WORLD_SIZE", "LOCAL_RANK"),  # an indexed job of Kubernetes
)
_OF_TORCHRUN = frozenset(
    (
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
        *("ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    )
)
_PREFIX_OF_TORCHRUN = "TORCHELASTIC_"
_MOST_RANKS = 1 << 20
_LONGEST = 256


class PlaceError(ValueError):
    """It is not known which rank of how many this is, or what is said of it makes no sense."""


class ClusterError(ZygoteError):
    """The cluster cannot give what is wanted; the message says which ranks are missing or failed, and why."""


@dataclass(frozen=True)
class Place:
    """Rank ``rank`` of ``size``, the one numbered ``local`` of its ``host``; and the versions of what it runs on."""

    rank: int
    size: int
    local: int
    host: str
    pid: int
    kit: str
    python: str
    torch: str

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size <= _MOST_RANKS or self.local < 0:
            raise PlaceError(f"rank {self.rank} of {self.size}, the one numbered {self.local} of its host: impossible")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Place:
        """Read back what :func:`to_json` wrote. Raises PlaceError where it is something else."""
        values = {field.name: data.get(field.name) for field in fields(cls)}
        for field in fields(cls):
            wanted, value = {"int": int, "str": str}[str(field.type)], values[field.name]
            if type(value) is not wanted or (isinstance(value, str) and not 0 < len(value) <= _LONGEST):
                raise PlaceError(f"an agent must tell its {field.name}")
        return cls(**values)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a message."""
        return asdict(self)

    @property
    def device(self) -> str:
        """Which device is meant for it, in words."""
        return f"{self.host}:{self.local}"


def place(
    environment: Mapping[str, str], *, rank: int | None, size: int | None, local: int | None, host: str | None
) -> Place:
    """Where this process is: as given, or else as its launcher's variables say. Raises PlaceError."""
    found: tuple[int | None, ...] = (None, None, None)
    for names in _LAUNCHERS:
        if names[0] in environment:
            found = tuple(_number(environment, name) for name in names)
            break
    rank, size = (given if given is not None else told for given, told in zip((rank, size), found, strict=False))
    if rank is None or size is None:
        missing = "its number (--rank)" if rank is None else "how many there are (--world-size)"
        raise PlaceError(
            f"this rank does not know {missing}: start it with torchrun or srun, which set RANK and WORLD_SIZE or "
            "SLURM_PROCID and SLURM_NTASKS, or say so"
        )
    return Place(
        rank,
        size,
        local if local is not None else found[2] or 0,
        host or platform.node() or "unnamed",
        os.getpid(),
        __version__,
        platform.python_version(),
        _torch_version(),
    )


def forget_launcher(environment: MutableMapping[str, str]) -> None:
    """Take out what the launcher has set for its own ranks: those of a group have other numbers, and meet elsewhere.

    Its TORCHELASTIC_USE_AGENT_STORE would make torch look for every group's store where torchrun has its own.
    """
    for name in list(environment):
        if name in _OF_TORCHRUN or name.startswith(_PREFIX_OF_TORCHRUN):
            del environment[name]


def spread(places: Sequence[Place], size: int) -> list[Place]:
    """So many of the places, spread over the hosts as evenly as can be, in the order of their ranks.

    A group of two on two hosts has one rank on each. Raises ValueError where there are not so many.
    """
    if size > len(places):
        raise ValueError(f"{size} of {len(places)} places are wanted")
    seen: dict[str, int] = {}
    turns = []
    for one in sorted(places, key=lambda place: place.rank):
        turns.append((seen.setdefault(one.host, 0), one.rank, one))
        seen[one.host] += 1
    chosen = [one for _, _, one in sorted(turns, key=lambda turn: turn[:2])[:size]]
    return sorted(chosen, key=lambda place: place.rank)


def numbers(ranks: Iterable[int]) -> str:
    """Ranks in words, runs of them joined: ``0-7, 9``."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name)
    if value is None:
        return None
    try:
        return int(value)
    except ValueError as error:
        raise PlaceError(f"{name}={value!r} is not a number") from error


def _torch_version() -> str:
    """As installed: the agent itself does not import torch."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "none"
