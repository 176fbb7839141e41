"""``sglang-conformance``: a thin face over the catalogue, the contract tables and the record of a run."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import __version__
from .bench import command as bench
from .certificate.folder import JUNIT, RECORD
from .certificate.model import Certificate
from .certificate.record import RecordError, from_json, parse
from .certificate.verify import verify
from .console import say, told, width
from .contract import command as contracts
from .contract import tables
from .contract.errors import ContractError
from .errors import OptionError
from .journey import command as journey
from .radar import command as radar
from .releases import command as releases
from .requirements import loader
from .requirements.loader import CatalogueError
from .requirements.model import PROFILES, Requirement


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 where what was asked for is not right, 2 for a wrong command."""
    options = _parser().parse_args(arguments)
    if options.command in (bench.run, journey.run, radar.run, releases.run):
        status: int = options.command(options)  # they print as they go
        return status
    try:
        lines = list(options.command(options))
        say(lines)
    except BrokenPipeError:
        pass  # the reader, a pager or head, has seen enough
    except (OptionError, CatalogueError, ContractError, RecordError, KeyError, OSError) as error:
        print(f"sglang-conformance: {_text(error)}", file=sys.stderr)
        return 1
    return 1 if options.command is _verify and not lines[-1].startswith(_SOUND) else 0


_SOUND = "the record is sound: "


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sglang-conformance", description="The rules, the contract tables, and the record of a run."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("requirements", help="list the requirements")
    listing.add_argument("--contract", metavar="RELEASE", help="those that hold for this SGLang release")
    listing.add_argument("--profile", metavar="NAME", choices=PROFILES, help=f"those of one of {', '.join(PROFILES)}")
    listing.set_defaults(command=_requirements)

    explain = commands.add_parser("explain", help="say what a requirement demands, and why")
    explain.add_argument("id", metavar="ID", help="such as ACT-003; `requirements` lists them")
    explain.set_defaults(command=_explain)

    contract = commands.add_parser("contract", help="what an SGLang release demands, as data")
    contracts.declare(contract)

    verifying = commands.add_parser("verify", help="check the record of a run: its digest, arithmetic and JUnit report")
    verifying.add_argument("folder", metavar="DIR", type=Path, help="the folder of the record: conformance-report")
    verifying.set_defaults(command=_verify)

    speed = commands.add_parser("bench", help="measure a platform's all-reduce, by engine, beside its own backend")
    bench.declare(speed)
    speed.set_defaults(command=bench.run)

    travels = commands.add_parser("journey", help="have SGLang's core serve tiny models on a platform, step by step")
    journey.declare(travels)
    travels.set_defaults(command=journey.run)

    ahead = commands.add_parser("radar", help="say what another SGLang release breaks of a plugin, by reading it")
    radar.declare(ahead)
    ahead.set_defaults(command=radar.run)

    many = commands.add_parser("releases", help="certify a platform for one SGLang release after another")
    releases.declare(many)
    many.set_defaults(command=releases.run)
    return parser


def _requirements(options: argparse.Namespace) -> Iterator[str]:
    catalogue = loader.load()
    found = catalogue.requirements
    if options.contract:
        tables.load(options.contract)
        names = {r.id for tree in (True, False) for r in _applying(catalogue, options.contract, in_tree=tree)}
        found = tuple(r for r in found if r.id in names)
    area = ""
    for requirement in found:
        if options.profile in (None, requirement.profile):
            if requirement.area != area:
                area = requirement.area
                yield f"{catalogue.areas[area]}"
            yield f"  {requirement.id}  {requirement.level:<6}  {requirement.profile:<11}  {requirement.title}"


def _applying(catalogue: loader.Catalogue, release: str, *, in_tree: bool) -> tuple[Requirement, ...]:
    profiles = {r.profile for r in catalogue.requirements}
    return catalogue.applying(release, in_tree=in_tree, profiles=profiles)


_PROVISIONAL = ", provisional: recorded, not deciding"


def _explain(options: argparse.Namespace) -> Iterator[str]:
    requirement = loader.load().get(options.id.upper())
    until = f", before {requirement.until}" if requirement.until else ""
    yield f"{requirement.id}  {requirement.title}"
    yield ""
    yield from textwrap.wrap(requirement.text, width())
    yield ""
    yield from textwrap.wrap(f"Why: {requirement.reason}", width())
    yield ""
    yield f"level     {requirement.level}{_PROVISIONAL if requirement.provisional else ''}"
    yield f"profile   {requirement.profile}"
    yield f"platforms {requirement.scope}"
    yield f"releases  from {requirement.since}{until}"
    for label, values in (("members", requirement.members), ("stands on", requirement.depends)):
        if values:
            start = f"{label:<9} "
            yield from textwrap.wrap(
                ", ".join(values), width(), initial_indent=start, subsequent_indent=" " * len(start)
            )
    for number, source in enumerate(requirement.sources):
        yield f"{'' if number else 'sources':<9} {source}"


def _verify(options: argparse.Namespace) -> Iterator[str]:
    folder = options.folder.parent if options.folder.name in (RECORD, JUNIT) else options.folder
    if not (folder / RECORD).exists():
        wrote = "conformance-report, or conformance-report/part where it was a part of the suite"
        raise RecordError(f"{folder} holds no {RECORD}; name the folder that a run wrote: {wrote}")
    problems = verify(folder)
    yield from problems
    if problems:
        yield f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    else:
        yield _told(from_json(parse(folder / RECORD), RECORD))


def _told(certificate: Certificate) -> str:
    """What a sound record says, in a line."""
    run = certificate.run
    verdicts = ", ".join(f"{v.profile} {v.verdict}" for v in certificate.profiles)
    who = f"{run.platform.name} {run.platform.version}".strip()
    return f"{_SOUND}a {run.kind} run of {who} by the contract of SGLang {run.contract}: {verdicts}"


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot write {told(error)}"
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
