"""Environment variables of SGLang's that the plugin reads or sets, and that SGLang has no more, or warns of."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Finding, Severity
from ..reading.seen import Seen

_REGISTRY = "sglang.srt.environ.Envs"


def find(seen: Seen) -> Iterator[Finding]:
    """Each variable that this release warns of, or that its registry had in an earlier one and has no more."""
    for variable in seen.facts.variables:
        does = "sets" if variable.is_set else "reads"
        path = f"{_REGISTRY}.{variable.name}"
        warned = seen.release.deprecated("variable").get(variable.name)
        if warned is not None:
            yield Finding(
                "variable",
                Severity.DEPRECATED,
                variable.name,
                f"{does} {variable.name}, which SGLang warns of",
                variable.place,
                f"SGLang {seen.release.name} says so at {warned.path}:{warned.line}",
                f"take {warned.replacement}" if warned.replacement else "take what SGLang names in its warning",
            )
            continue
        if not variable.name.startswith("SGLANG_") or seen.release.index.symbols.get(path) is not None:
            continue
        last = seen.history.last_with(path, seen.release.name)
        if last:
            yield Finding(
                "variable",
                Severity.DEPRECATED,
                variable.name,
                f"{does} {variable.name}, which SGLang has no more",
                variable.place,
                f"SGLang's registry had it up to {last}: users are no longer told of it",
                "take what is in its place now, or give the variable a name of your own",
            )
