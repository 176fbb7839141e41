"""Members that a check asks for and this SGLang lacks: a release that the catalogue does not know yet took them away.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...contract import tables
from ..expect import Violation

_KIT = __name__.partition(".")[0]


def lacked(error: BaseException, given: Mapping[str, Any]) -> str:
    """What the rule stands on and this release lacks; ``given``: what the check was given. Empty where it is not that.

    Only what the kit itself asks of the platform counts: a plugin that reaches for such a member is wrong.
    """
    raised = error.__context__ if isinstance(error, Violation) else error
    platform, contract = given.get("platform"), given.get("contract")
    if platform is None or contract is None or not isinstance(raised, AttributeError) or raised.obj is not platform:
        return ""
    name = str(raised.name)
    if contract.has(name) or not _is_asked_by_the_kit(raised):
        return ""
    having = [release for release in tables.releases() if tables.load(release).has(name)]
    return f"SGLang {contract.release} has no {name}, which {having[-1]} has" if having else ""


def _is_asked_by_the_kit(error: BaseException) -> bool:
    trace, innermost = error.__traceback__, ""
    while trace is not None:
        innermost = str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next
    return innermost.partition(".")[0] == _KIT
