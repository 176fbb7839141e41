"""Environment variables of SGLang's that the plugin reads, and that SGLang has no more."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Finding, Severity
from ..observe import Seen

_REGISTRY = "sglang.srt.environ.Envs"


def find(seen: Seen) -> Iterator[Finding]:
    """Each variable that SGLang's registry had in an earlier release, and has not in this one."""
    for variable in seen.facts.variables:
        path = f"{_REGISTRY}.{variable.name}"
        if not variable.name.startswith("SGLANG_") or seen.release.index.symbols.get(path) is not None:
            continue
        last = seen.history.last_with(path, seen.release.name)
        if last:
            yield Finding(
                "variable",
                Severity.DEPRECATED,
                variable.name,
                f"reads {variable.name}, which SGLang has no more",
                variable.place,
                f"SGLang's registry had it up to {last}: users are no longer told of it",
                "read what took its place, or give the variable a name of your own",
            )
