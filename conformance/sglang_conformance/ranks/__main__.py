"""``python -m sglang_conformance.ranks``: one rank of a cluster, started by torchrun, srun or Kubernetes."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from .address import AddressError, parsed
from .agent import Agent, Stopped
from .allowed import Allowed
from .place import PlaceError, forget_launcher, place
from .secret import VARIABLE, SecretError, take_secret
from .wire import WireError

_DESCRIPTION = f"""\
Lends this machine's devices to a conformance run elsewhere: joins 'pytest --platform=NAME --ranks-at HOST:PORT', and
runs the ranks of its multi-rank checks until that run is over. One is started for each device:

  torchrun --nnodes=2 --nproc-per-node=8 ... -m sglang_conformance.ranks --controller HOST:PORT --secret-file FILE
  srun --ntasks=16 --ntasks-per-node=8 python -m sglang_conformance.ranks --controller HOST:PORT --secret-file FILE

It may be started before pytest is. The secret is the same on all hosts and in pytest, at least 16 bytes long, and is
taken from a file that only its owner may read, or from {VARIABLE}.
"""
_EPILOG = "Exit status: 0 after the controller said goodbye; 1 where it is gone or said no; 2 for bad options."


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sglang_conformance.ranks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--controller", metavar="HOST:PORT", required=True, help="what pytest was given as --ranks-at")
    parser.add_argument("--secret-file", metavar="FILE", help=f"the shared secret (default: {VARIABLE})")
    parser.add_argument(
        "--wait", metavar="SECONDS", type=float, default=120.0, help="for the controller (default: 120)"
    )
    launched = parser.add_argument_group("where torchrun or srun does not say so")
    launched.add_argument("--rank", metavar="N", type=int, help="which rank this is, from 0")
    launched.add_argument("--world-size", metavar="N", type=int, help="how many there are")
    launched.add_argument("--local-rank", metavar="N", type=int, help="which of this host's ranks, and so which device")
    launched.add_argument("--host", metavar="NAME", help="how to call this host (default: its own name)")
    parser.add_argument(
        "--allow",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="run what is in this package too, not only the kit",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    given = options().parse_args(arguments)
    who = "a rank"
    try:
        here = place(os.environ, rank=given.rank, size=given.world_size, local=given.local_rank, host=given.host)
        who = f"rank {here.rank} on host {here.host}"
        secret = take_secret(given.secret_file, os.environ)
        agent = Agent(parsed(given.controller), secret, here, Allowed(given.allow), given.wait)
    except (AddressError, PlaceError, SecretError) as error:
        return _told(who, error, 2)
    forget_launcher(os.environ)
    try:
        asyncio.run(agent.live())
    except WireError as error:
        return _told(who, error, 1)
    except Stopped as error:
        return _told(who, error, error.status)
    return 0


def _told(who: str, error: Exception, status: int) -> int:
    print(f"sglang_conformance.ranks: {who}: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
