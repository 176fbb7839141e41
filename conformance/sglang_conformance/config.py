"""The run's options, resolved once and frozen.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .contract.errors import ContractError
from .hosts.choose import Host, HostError, choose
from .requirements.model import PROFILES
from .subject import Subject, UnknownPlatform, find

DEFAULT_CERTIFICATE = "conformance-report"
DEFAULT_EXAMPLES = 50
DEFAULT_DEADLINE = 30.0


class OptionError(ValueError):
    """An option's value cannot be used; the message says why, and what to give instead."""


@dataclass(frozen=True)
class Config:
    """What a run is asked to do.

    ``profiles`` None: all that the platform declares. ``deadline`` in seconds a probe. ``paths``: folders put on the
    probes' import path, for plugins that are not installed in this environment (the kit's own tests use it).
    """

    subject: Subject
    host: Host
    profiles: tuple[str, ...] | None
    waivers: Path | None
    certificate: Path
    examples: int
    deadline: float
    paths: tuple[str, ...] = ()


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
    return Config(
        subject=subject,
        host=host,
        profiles=_profiles(profile),
        waivers=folder / waivers if waivers else None,
        certificate=folder / certificate,
        examples=examples or DEFAULT_EXAMPLES,
        deadline=deadline or DEFAULT_DEADLINE,
    )


def _profiles(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown: Sequence[str] = [name for name in names if name not in PROFILES]
    if unknown or not names:
        raise OptionError(f"--profile={text}: no such profile; there are {', '.join(PROFILES)}")
    return tuple(dict.fromkeys(("core", *names)))  # every profile stands on core
