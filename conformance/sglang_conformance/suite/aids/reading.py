"""What the plugin's code does with SGLang, read without importing it, as ``sglang-conformance radar`` tells it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
from pathlib import Path

from ...contract import tables
from ...radar.finding import Finding
from ...radar.opening import open_installed, see_that_some_was_read
from ...radar.plugin import PluginError
from ...radar.reading.code import Code
from ...radar.reading.history import History
from ...radar.survey import judge
from ...subject import Subject
from .. import expect


def findings(subject: Subject, release: str) -> tuple[Finding, ...]:
    """What of the plugin's code does not fit a release, the gravest first.

    Raises NotReached where the code cannot be read, or the kit has no index of that release.
    """
    if release not in tables.releases():
        text = f"the kit has no index of SGLang {release} to read the plugin against; contract extract --into makes one"
        raise expect.NotReached(text)
    try:
        return _findings(subject.distribution, subject.home, release)
    except PluginError as error:
        raise expect.NotReached(f"the plugin's code cannot be read: {error}") from error


@functools.lru_cache(maxsize=1)
def _findings(distribution: str, home: str, release: str) -> tuple[Finding, ...]:
    """Asked by each check of the area: read once."""
    plugin = open_installed(distribution, Path(home))
    see_that_some_was_read(plugin)
    history = History({known: tables.load(known) for known in tables.releases()}, tables.load_indexes)
    return judge(plugin, Code.of(plugin), history, release).findings
