"""``sglang-conformance journey NAME``: its options, and a journey from them to the story and the record."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..commands import UNUSABLE, carried_out, chosen, deadline, ended
from ..console import say, see_that_it_can_be_written, width, write
from ..errors import OptionError
from . import text
from .running import JourneyError, Plan, travelling

_COMMAND = "journey"
MODELS = ("llama", "latent", "mixtral")
FURTHER = ("llama-tied",)
DTYPES = ("float32", "bfloat16", "float16")
DEFAULT_DEADLINE = 60.0
_MOST_RANKS = 8
_LARGEST_BATCH = 64


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("name", metavar="NAME", help="the platform: that of an installed plugin, or one built into SGLang, such as cpu")
    add(
        "--sglang",
        choices=("auto", "reference", "installed"),
        default="reference",
        help="the host: the kit's re-implementation (default), or the installed SGLang, where that can serve",
    )
    add("--contract", metavar="RELEASE", help="the SGLang release (default: the newest)")
    add(
        "--model",
        metavar="NAME[,NAME]",
        default=",".join(MODELS),
        help=f"of {', '.join((*MODELS, *FURTHER))} (default: the first three)",
    )
    add("--tp", metavar="N", type=int, default=1, help="ranks that share each model, a process each (default: 1)")
    add(
        "--graphs",
        metavar="N[,N]",
        help="batch sizes to capture decode steps of (default: none, each step is computed eagerly)",
    )
    add("--dtype", metavar="NAME[,NAME]", default=DTYPES[0], help=f"of {', '.join(DTYPES)} (default: float32)")
    add(
        "--deadline",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_DEADLINE,
        help="how long each step of your code may take; starting a server has 30 more, of the installed SGLang 150 "
        "(default: %(default)g)",
    )
    add("--json", metavar="FILE", type=Path, help="write the record there, with every call of every process")


def run(options: argparse.Namespace) -> int:
    """Serve, and tell the story as it goes; the exit status.

    0 where every leg was served and is right, 1 where one is not or nothing could be served, 2 for options that cannot
    be used.
    """
    try:
        plan = _plan(options)
        see_that_it_can_be_written("--json", options.json)
    except OptionError as error:
        return ended(_COMMAND, str(error), UNUSABLE)
    return carried_out(_COMMAND, lambda: _told(plan, options.json), JourneyError)


def _told(plan: Plan, file: Path | None) -> bool:
    """Serve, tell the story, and write it where that is asked for; whether every leg was served and is right."""
    columns = width()
    with travelling(plan) as travel:
        journey = travel.begun()
        say(text.heading(journey, columns))
        for leg in plan.legs:
            served = travel.leg(leg)
            journey = replace(journey, legs=(*journey.legs, served))
            say(text.told(served, columns))
    say(text.closing(journey, columns))
    if file:
        write(file, journey.dumps())
    return journey.good


def _plan(options: argparse.Namespace) -> Plan:
    """The journey that the options ask for; raises OptionError with one clear line."""
    from .leg import Leg

    host, subject = chosen(options)
    if not 1 <= options.tp <= _MOST_RANKS or options.tp & (options.tp - 1):
        raise OptionError(f"--tp={options.tp}: 1, 2, 4 or 8 ranks can share these models")
    seconds = deadline(options)
    models = _names("--model", options.model, (*MODELS, *FURTHER))
    dtypes = _names("--dtype", options.dtype, DTYPES)
    graphs = _sizes(options.graphs) if options.graphs is not None else ()
    legs = tuple(Leg(model, tp=options.tp, dtype=dtype, graphs=graphs) for model in models for dtype in dtypes)
    return Plan(subject, host, legs, seconds)


def _names(option: str, given: str, known: Collection[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"{unknown[0]!r} is none of them" if unknown else "it is empty"
        raise OptionError(f"{option}={given}: {what}; name some of {', '.join(known)}")
    return names


def _sizes(given: str) -> tuple[int, ...]:
    parts = [part.strip() for part in given.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= _LARGEST_BATCH for part in parts):
        raise OptionError(f"--graphs={given}: batch sizes from 1 to {_LARGEST_BATCH} are needed, as in 1,2,4,8")
    return tuple(sorted({int(part) for part in parts}))
