"""``python -m parity``: every subject, for every release or those that are named, with a table at the end.

Exit status: 0 where nothing differs but what is listed, 1 where something does, 2 where a side cannot be made.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from . import releases, sides
from .lockstep import Tally, compare, drawn, misplaced
from .sides import SideError
from .subjects import SHARES, shares

_ROW = "{:<9} {:<13} {:>7} {:>8} {:>9} {:>12}  {}"


def main(arguments: Sequence[str]) -> int:
    """Compare, print a line a subject, and tell whether all went well."""
    options = _options(arguments)
    counts = shares(options.worlds, options.subject)
    print(_ROW.format("release", "subject", "worlds", "seconds", "a second", "unexplained", "listed"), flush=True)
    worlds = {subject: drawn(subject, count, options.seed) for subject, count in counts.items()}
    wrong = False
    zygote = sides.start()
    try:
        for release in options.release:
            with sides.pair(zygote, release) as pair:
                complaints = misplaced(pair, counts)
                for subject, count in counts.items():
                    tally = compare(pair, subject, worlds[subject], count, options.seed)
                    _print(tally)
                    wrong = wrong or bool(tally.disagreements)
            for complaint in complaints:
                print(f"{release}: {complaint}", flush=True)
            wrong = wrong or bool(complaints)
    except SideError as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    finally:
        zygote.close()
    print("something differs that is not listed" if wrong else "nothing differs but what is listed")
    return int(wrong)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m parity", description="the reference against the real SGLang")
    parser.add_argument("--worlds", type=int, default=2000, help="how many a release, over all subjects (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another number draws other worlds (%(default)s)")
    parser.add_argument(
        "--release",
        type=_several(releases.RELEASES),
        default=releases.RELEASES,
        help=f"comma-separated; of {', '.join(releases.RELEASES)}, the releases in {releases.VARIABLE} (all)",
    )
    parser.add_argument("--subject", type=_several(tuple(SHARES)), default=tuple(SHARES), help="comma-separated (all)")
    options = parser.parse_args(arguments)
    if options.worlds < 1:
        parser.error(f"--worlds={options.worlds}: at least one world must be drawn")
    return options


def _several(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(filter(None, text.split(",")))
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"{text!r}: give one or several of {', '.join(known)}")
        return names

    return parse


def _print(tally: Tally) -> None:
    known = ", ".join(f"{name} {count}" for name, count in sorted(tally.known.items()))
    rate = round(tally.worlds / tally.seconds) if tally.seconds else 0
    columns = (tally.release, tally.subject, tally.worlds, f"{tally.seconds:.1f}", rate)
    print(_ROW.format(*columns, len(tally.disagreements), known or "-"), flush=True)
    if tally.fleeting:
        print(f"  differed in their batch, and not again alone: {tally.fleeting}", flush=True)
    for disagreement in tally.disagreements:
        print(disagreement, flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
