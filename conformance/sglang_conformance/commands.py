"""What the commands share that run one platform: which it is, how long its code may take, and how they end."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable

from .console import told
from .contract.errors import ContractError
from .errors import OptionError
from .hosts.choose import Host, HostError, choose
from .subject import Subject, UnknownPlatform, find

DONE, WRONG, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: all is well, something is not, options that cannot be used, Ctrl-C."""


def chosen(options: argparse.Namespace) -> tuple[Host, Subject]:
    """The host and the platform that the options name; raises OptionError with one clear line."""
    try:
        host = choose(options.sglang, options.contract)
        return host, find(options.name, host.contract)
    except (HostError, UnknownPlatform, ContractError) as error:
        raise OptionError(str(error).removeprefix("--platform=")) from error


def deadline(options: argparse.Namespace) -> float:
    """The seconds of ``--deadline``; raises OptionError."""
    seconds: float = options.deadline
    if not 0 < seconds < math.inf:
        raise OptionError(f"--deadline={seconds:g}: a number of seconds above 0 is needed")
    return seconds


def carried_out(command: str, work: Callable[[], bool], failed: type[Exception]) -> int:
    """Do what a command is for, which says whether all is well; the exit status.

    Errors of the kind ``failed`` speak for themselves.
    """
    try:
        return DONE if work() else WRONG
    except BrokenPipeError:  # the reader, a pager or head, has seen enough
        return WRONG
    except OSError as error:
        return ended(command, told(error), WRONG)
    except failed as error:
        return ended(command, str(error), WRONG)
    except KeyboardInterrupt:
        return ended(command, "interrupted", INTERRUPTED)


def ended(command: str, message: str, status: int) -> int:
    """Say why a command ends so; the status."""
    print(f"sglang-conformance {command}: {message}", file=sys.stderr)
    return status
