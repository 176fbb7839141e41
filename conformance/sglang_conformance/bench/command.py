"""``sglang-conformance bench NAME``: its options, and one run from them to the table, the record and the plot."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..commands import UNUSABLE, carried_out, chosen, deadline, ended
from ..console import say, see_that_it_can_be_written, write
from ..errors import OptionError
from . import against, plot, record, sizes, table
from .measuring import Bench, BenchError, Plan, bench, cases
from .model import ENGINES, YARDSTICKS, Measured

_COMMAND = "bench"
DEFAULT_DTYPES = "float32"
DEFAULT_WARMUP, DEFAULT_ITERATIONS = 5, 20
DEFAULT_DEADLINE = 60.0
_OF_YOUR_CHOICE = tuple(name for name in ENGINES if name not in YARDSTICKS)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "engines:\n" + "\n".join(f"  {name:<9} {what}" for name, what in ENGINES.items())
    add = parser.add_argument
    add("name", metavar="NAME", help="the platform: that of an installed plugin, or one built into SGLang, such as cpu")
    add(
        "--sglang",
        choices=("auto", "reference", "installed"),
        default="auto",
        help="the host: the kit's re-implementation, or the installed SGLang (auto: that, where there is one)",
    )
    add("--contract", metavar="RELEASE", help="the SGLang release (default: the installed one; else the newest)")
    add("--world-size", metavar="N[,N]", help="numbers of ranks (default: 2 and 4, as far as there are devices)")
    add("--sizes", metavar="SIZE[,SIZE]", help=f"bytes of a message (default: {sizes.DEFAULT_SIZES})")
    add("--min", metavar="SIZE", help=f"the smallest size, in place of --sizes (default: {sizes.LEAST})")
    add("--max", metavar="SIZE", help=f"the largest size (default: {sizes.MOST})")
    add("--factor", metavar="F", type=float, help=f"from one size to the next (default: {sizes.FACTOR})")
    add("--dtype", metavar="NAME[,NAME]", default=DEFAULT_DTYPES, help="float32, float16, bfloat16 (default: float32)")
    add(
        "--engines",
        metavar="NAME[,NAME]",
        help=f"of {', '.join(_OF_YOUR_CHOICE)} (default: all); {' and '.join(YARDSTICKS)} are always there",
    )
    add("--warmup", metavar="N", type=int, default=DEFAULT_WARMUP, help="iterations before (default: %(default)s)")
    add("--iterations", metavar="N", type=int, default=DEFAULT_ITERATIONS, help="iterations (default: %(default)s)")
    add(
        "--deadline",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_DEADLINE,
        help="how long each size may take; starting has at least 30 (default: %(default)g)",
    )
    add("--json", metavar="FILE", type=Path, help="write the record there")
    add("--against", metavar="FILE", type=Path, help="compare with an earlier record, that --json wrote")
    add("--plot", metavar="FILE", type=Path, help="draw it there, as .svg or .png (needs the extra plot: matplotlib)")


def run(options: argparse.Namespace) -> int:
    """Measure, and print as it goes; the exit status.

    0 where every value is right, 1 where one is wrong or the platform could not be measured, 2 for options that cannot
    be used.
    """
    try:
        plan = _plan(options)
        before = against.load(options.against) if options.against else None
        _see_that_it_can_be_written(options)
    except OptionError as error:
        return ended(_COMMAND, str(error), UNUSABLE)
    return carried_out(_COMMAND, lambda: _told(plan, options, before), BenchError)


def _told(plan: Plan, options: argparse.Namespace, before: Mapping[str, Any] | None) -> bool:
    """Measure, tell it, and write what was asked for; whether every value is right."""
    measured: list[Measured] = []
    with bench(plan) as ranks:
        setting = _measure(plan, ranks, measured)
    say(("", *table.closing(measured)))
    if before is not None:
        say(("", *against.lines(before, record.to_json(setting, measured))))
    if options.json:
        write(options.json, record.dumps(setting, measured))
    if options.plot:
        write(options.plot, plot.draw(setting, measured, options.plot.suffix.lower()))
    return not any(each.wrong for each in measured)


def _measure(plan: Plan, ranks: Bench, measured: list[Measured]) -> record.Setting:
    world_sizes = ranks.world_sizes
    setting = record.Setting.of(plan, ranks, world_sizes)
    say(table.heading(setting))
    for case in cases(world_sizes, plan.dtypes, plan.sizes):
        begins = not measured or measured[-1].case.ranks != case.ranks
        found = ranks.measure(case)
        measured.append(found)
        say((*(table.columns(case.ranks) if begins else ("",)), *table.block(found)))
    return setting


def _plan(options: argparse.Namespace) -> Plan:
    """The run that the options ask for; raises OptionError with one clear line."""
    host, subject = chosen(options)
    if options.warmup < 0:
        raise OptionError(f"--warmup={options.warmup}: 0 or more is needed")
    if options.iterations < 1:
        raise OptionError(f"--iterations={options.iterations}: at least 1 is needed")
    seconds = deadline(options)
    dtypes = sizes.dtypes(options.dtype)
    return Plan(
        subject=subject,
        host=host,
        world_sizes=sizes.world_sizes(options.world_size),
        dtypes=dtypes,
        sizes=sizes.sizes(options.sizes, options.min, options.max, options.factor, dtypes),
        engines=(*sizes.engines(options.engines, _OF_YOUR_CHOICE), *YARDSTICKS),
        warmup=options.warmup,
        iterations=options.iterations,
        deadline=seconds,
    )


def _see_that_it_can_be_written(options: argparse.Namespace) -> None:
    """Not after a long run."""
    if options.plot:
        plot.require(options.plot)
    see_that_it_can_be_written("--json", options.json)
    see_that_it_can_be_written("--plot", options.plot)
