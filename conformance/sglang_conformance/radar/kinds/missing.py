"""Uses of something of SGLang's that is not there: imports, attributes, patches, and calls that it does not take."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Finding, Severity
from ..reading.facts import Misfit, Missing, Reach
from ..reading.seen import Seen
from . import places


def find(seen: Seen) -> Iterator[Finding]:
    """Each use of a dotted path that this release lacks, and each call that it does not take."""
    for missing in seen.facts.missing:
        if missing.use == "import" or seen.history.elsewhere(missing.path):
            yield _missing(seen, missing)
    for wrong in seen.facts.misfits:
        yield _misfit(seen, wrong)
    for outdated in seen.facts.outdated:
        yield Finding(
            "deprecated",
            Severity.DEPRECATED,
            outdated.path,
            f"uses {outdated.path}, which SGLang warns of",
            outdated.place,
            f"SGLang {seen.release.name} says so at {outdated.site}",
            f"use {outdated.replacement}" if outdated.replacement else "use what SGLang names in its warning",
        )
    for text, place in seen.wrong_paths:
        yield Finding(
            "class path",
            Severity.BREAKS,
            text,
            f"activate() names {text}, which is not there",
            place,
            "SGLang imports the module, and takes the class from it",
            "give the full dotted path of the platform class",
        )


def severity(reach: Reach) -> Severity:
    """How grave an error is that is raised at a line, by how the line is reached."""
    if reach.swallowed or reach.root == "hooks":
        return Severity.SILENT
    return Severity.BREAKS if reach.sure and reach.root != "other" else Severity.MAY_BREAK


_WHEN = {
    "platform": "the line is run when SGLang takes up the platform, or asks it",
    "hooks": "the line is run while the plugin's hooks are registered: SGLang logs the error, and goes on without them",
    "hook": "the line is run when the hook is called",
    "other": "the line is run if the function that it stands in is called",
}


def _missing(seen: Seen, missing: Missing) -> Finding:
    verb = {"import": "imports", "attribute": "uses", "patch": "sets"}[missing.use]
    grave = Severity.SILENT if missing.use == "patch" else severity(missing.reach)
    why = (
        "SGLang no longer looks there: what is set is read by nobody" if missing.use == "patch" else _why(missing.reach)
    )
    return Finding(
        missing.use,
        grave,
        missing.path,
        f"{verb} {missing.path}, which is not there",
        missing.place,
        f"{places.history(seen, missing.path)}; {why}",
        places.instead(seen, missing.path, missing.names) or _without(missing.path),
    )


def _why(reach: Reach) -> str:
    if reach.swallowed:
        return "a caller catches the error, and goes on without what stands behind it"
    return _WHEN[reach.root]


def _without(path: str) -> str:
    return f"do without {path.rpartition('.')[2]}, or guard its use for the releases that have it"


def _misfit(seen: Seen, wrong: Misfit) -> Finding:
    return Finding(
        "call",
        severity(wrong.reach),
        f"{wrong.path}({', '.join(wrong.given.keywords)})",
        f"calls {wrong.path} in a way that it does not take",
        wrong.place,
        f"{wrong.why}; {_why(wrong.reach)}",
        "give what this release takes, or guard the call",
    )
