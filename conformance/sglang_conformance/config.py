"""The run's options, resolved once and frozen.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .contract.errors import ContractError
from .errors import OptionError
from .hosts.choose import Host, HostError, choose
from .requirements.model import PROFILES
from .subject import Subject, UnknownPlatform, find

DEFAULT_CERTIFICATE = "conformance-report"
DEFAULT_EXAMPLES = 50
DEFAULT_DEADLINE = 30.0
WORLD_SIZES = (2, 4)
MOST_RANKS = 1024


@dataclass(frozen=True)
class Config:
    """What a run is asked to do.

    ``profiles`` None: all that the platform declares. ``deadline`` in seconds a probe. ``paths``: folders put on the
    probes' import path, for plugins that are not installed in this environment (the kit's own tests use it).
    ``world_sizes`` None: each check's own sizes of groups, as far as the devices allow. ``ranks_at``: where ranks that
    are started elsewhere come to, with the secret of ``secret_file``; None where they are started here.
    """

    subject: Subject
    host: Host
    profiles: tuple[str, ...] | None
    waivers: Path | None
    certificate: Path
    examples: int
    deadline: float
    paths: tuple[str, ...] = ()
    world_sizes: tuple[int, ...] | None = None
    ranks_at: str | None = None
    secret_file: Path | None = None


def resolve(
    *,
    platform: str,
    sglang: str,
    contract: str | None,
    profile: str | None,
    waivers: str | None,
    certificate: str,
    examples: int | None,
    deadline: float | None,
    world_size: str | None = None,
    ranks_at: str | None = None,
    secret_file: str | None = None,
    folder: Path,
) -> Config:
    """The run's configuration; relative paths are taken from ``folder``.

    Raises OptionError with one clear line.
    """
    try:
        host = choose(sglang, contract)
        subject = find(platform, host.contract)
    except (HostError, UnknownPlatform, ContractError) as error:
        raise OptionError(str(error)) from error
    if examples is not None and examples < 1:
        raise OptionError(f"--examples={examples}: at least 1 is needed")
    if deadline is not None and not 0 < deadline < math.inf:
        raise OptionError(f"--deadline={deadline:g}: a number of seconds above 0 is needed")
    if secret_file is not None and ranks_at is None:
        raise OptionError("--secret-file is for ranks that are started elsewhere; say where they come to: --ranks-at")
    return Config(
        subject=subject,
        host=host,
        profiles=_profiles(profile),
        waivers=folder / waivers if waivers else None,
        certificate=folder / certificate,
        examples=examples or DEFAULT_EXAMPLES,
        deadline=deadline or DEFAULT_DEADLINE,
        world_sizes=_world_sizes(world_size),
        ranks_at=ranks_at,
        secret_file=folder / secret_file if secret_file else None,
    )


def _world_sizes(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or not all(name.isascii() and name.isdigit() and 0 < int(name) <= MOST_RANKS for name in names):
        raise OptionError(f"--world-size={text}: numbers of ranks from 1 to {MOST_RANKS} are needed, as in 2,4")
    return tuple(sorted({int(name) for name in names}))


def _profiles(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown: Sequence[str] = [name for name in names if name not in PROFILES]
    if unknown or not names:
        raise OptionError(f"--profile={text}: no such profile; there are {', '.join(PROFILES)}")
    return tuple(dict.fromkeys(("core", *names)))  # every profile stands on core
