"""``sglang-conformance journey NAME``: its options, and a journey from them to the story and the record."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..bench.record import write
from ..console import say, see_that_it_can_be_written, told, width
from ..contract.errors import ContractError
from ..errors import OptionError
from ..hosts.choose import HostError, choose
from ..subject import UnknownPlatform, find
from . import text
from .running import JourneyError, Plan, travelling
from .story import Journey

MODELS = ("llama", "latent", "mixtral")
FURTHER = ("llama-tied",)
DTYPES = ("float32", "bfloat16", "float16")
DEFAULT_DEADLINE = 60.0
_MOST_RANKS = 8
_LARGEST_BATCH = 64

SERVED, NOT_SERVED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("name", metavar="NAME", help="the platform: that of an installed plugin, or one built into SGLang, such as cpu")
    add(
        "--sglang",
        choices=("auto", "reference", "installed"),
        default="reference",
        help="the host: the kit's re-implementation (default); the installed SGLang starts no server here yet",
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
        help="how long each step of your code may take; starting a server has 30 more (default: %(default)g)",
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
        return _end(str(error), UNUSABLE)
    try:
        journey = _travel(plan)
        if options.json:
            write(options.json, journey.dumps())
    except BrokenPipeError:  # the reader, a pager or head, has seen enough
        return NOT_SERVED
    except OSError as error:
        return _end(told(error), NOT_SERVED)
    except JourneyError as error:
        return _end(str(error), NOT_SERVED)
    except KeyboardInterrupt:
        return _end("interrupted", INTERRUPTED)
    return SERVED if journey.good else NOT_SERVED


def _travel(plan: Plan) -> Journey:
    columns = width()
    with travelling(plan) as travel:
        journey = travel.begun()
        say(text.heading(journey, columns))
        for leg in plan.legs:
            served = travel.leg(leg)
            journey = replace(journey, legs=(*journey.legs, served))
            say(text.told(served, columns))
    say(text.closing(journey, columns))
    return journey


def _plan(options: argparse.Namespace) -> Plan:
    """The journey that the options ask for; raises OptionError with one clear line."""
    from .leg import Leg

    try:
        host = choose(options.sglang, options.contract)
        subject = find(options.name, host.contract)
    except (HostError, UnknownPlatform, ContractError) as error:
        raise OptionError(str(error).removeprefix("--platform=")) from error
    if not 1 <= options.tp <= _MOST_RANKS or options.tp & (options.tp - 1):
        raise OptionError(f"--tp={options.tp}: 1, 2, 4 or 8 ranks can share these models")
    if not 0 < options.deadline < math.inf:
        raise OptionError(f"--deadline={options.deadline:g}: a number of seconds above 0 is needed")
    models = _names("--model", options.model, (*MODELS, *FURTHER))
    dtypes = _names("--dtype", options.dtype, DTYPES)
    graphs = _sizes(options.graphs) if options.graphs is not None else ()
    legs = tuple(Leg(model, tp=options.tp, dtype=dtype, graphs=graphs) for model in models for dtype in dtypes)
    return Plan(subject, host, legs, options.deadline)


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


def _end(message: str, status: int) -> int:
    print(f"sglang-conformance journey: {message}", file=sys.stderr)
    return status
