"""``sglang-conformance contract``: its commands and options, and what each of them prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from ..console import see_that_it_can_be_written, width
from . import extract, extract_server_args, tables
from .bundle import add
from .diff import diff
from .page import page
from .target_diff import target_diff
from .text import contract_lines, diff_lines


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the commands; each sets ``command`` to a function that takes the options and yields the lines to print.

    These functions raise ContractError with one clear line for what cannot be read, OptionError for a file that has no
    place, and OSError for what cannot be written.
    """
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="list the bundled releases").set_defaults(command=_list)

    show = commands.add_parser("show", help="show a release's contract")
    show.add_argument("release", metavar="RELEASE", nargs="?", help="default: the newest")
    show.add_argument("--json", action="store_true", help="as the table itself")
    show.set_defaults(command=_show)

    differ = commands.add_parser("diff", help="show what changed for platforms and hooks from one release to another")
    differ.add_argument("older", metavar="A", help="a bundled release; `contract list` names them")
    differ.add_argument("newer", metavar="B", help="another one")
    differ.add_argument("--hook-targets", action="store_true", help="each hook target that is gone, moved or changed")
    form = differ.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--html", metavar="FILE", type=Path, help="write a page there")
    differ.set_defaults(command=_diff)

    reading = commands.add_parser(
        "extract", help="read the contract out of a wheel or a source tree, without importing it"
    )
    reading.add_argument("path", metavar="PATH", type=Path, help="a wheel, or a folder that holds sglang/")
    target = reading.add_mutually_exclusive_group()
    target.add_argument("--server-args", action="store_true", help="the server arguments of the release instead")
    target.add_argument(
        "--into",
        metavar="FOLDER",
        type=Path,
        help="write contract, server arguments and index into this folder of tables, and print what is new",
    )
    reading.set_defaults(command=_extract)


def _list(options: argparse.Namespace) -> Iterator[str]:
    known = tables.releases()
    column = max(map(len, known))
    for release in known:
        contract = tables.load(release)
        used = f"{len(contract.called())} of them used by SGLang's core"
        yield f"{release:<{column}}  {len(contract.members)} members, {used}"


def _show(options: argparse.Namespace) -> Iterator[str]:
    contract = tables.load(options.release or tables.newest())
    if options.json:
        yield tables.dump(contract).removesuffix("\n")
    else:
        yield from contract_lines(contract, width())


def _diff(options: argparse.Namespace) -> Iterator[str]:
    see_that_it_can_be_written("--html", options.html)
    found = diff(tables.load(options.older), tables.load(options.newer))
    targets = target_diff(*tables.load_indexes(options.older, options.newer))
    if options.html is not None:
        options.html.write_text(page(found, targets, every_target=options.hook_targets), encoding="utf-8")
        yield f"written to {options.html}"
    elif options.json:
        data = found.to_json()
        data["hook_targets"] = targets.to_json(every_target=options.hook_targets)
        yield json.dumps(data, indent=1)
    else:
        yield from diff_lines(found, targets, every_target=options.hook_targets, width=width())


def _extract(options: argparse.Namespace) -> Iterator[str]:
    if options.into is None:
        room = extract_server_args if options.server_args else extract
        yield tables.dump(room.extract(options.path)).rstrip("\n")
        return
    added = add(options.path, options.into)
    yield from (f"written: {file}" for file in added.files)
    yield ""
    if added.changes is None or added.targets is None:
        yield f"{added.release} is the {'oldest' if added.others else 'first'} release in {options.into}"
    else:
        yield from diff_lines(added.changes, added.targets, every_target=False, width=width())
