"""The cases of a ``match`` statement: that which is taken, or all that may be."""

from __future__ import annotations

import ast

from .definitions import Definitions
from .functions import Flow
from .values import UNKNOWN, Const, Seq, Value, either, truth


class Matching(Definitions):
    """Walks ``match``, and holds what branches that may be taken leave behind."""

    def _restore(self, names: dict[str, Value]) -> None:
        self.scope.names.clear()
        self.scope.names.update(names)

    def _join(self, names: dict[str, Value], both: bool) -> None:
        for name, value in names.items():
            here = self.scope.names.get(name)
            self.scope.names[name] = value if here is None or not both else either([value, here])

    def _Match(self, node: ast.Match) -> Flow:  # noqa: N802
        subject, before = self.eval(node.subject), dict(self.scope.names)
        flows: list[Flow] = []
        left: list[dict[str, Value]] = []
        for case in node.cases:
            fits = self._taken(case, subject)
            if fits and not flows:
                return self.block(case.body)
            if fits is not False:
                with self.unsure():
                    flows.append(self.block(case.body))
                left += [dict(self.scope.names)] if flows[-1] is Flow.NEXT else []
            self._restore(before)
            if fits:
                break
        else:
            flows.append(Flow.NEXT)
        for names in left:
            self._join(names, both=True)
        return Flow.NEXT if Flow.NEXT in flows else Flow.END

    def _taken(self, case: ast.match_case, subject: Value) -> bool | None:
        """Whether a case is taken that is come to; None where that cannot be told."""
        fits = self._fits(case.pattern, subject)
        if case.guard is None or fits is False:
            return fits
        guard = truth(self.eval(case.guard))
        return False if guard is False else fits if guard else None

    def _fits(self, pattern: ast.pattern, subject: Value) -> bool | None:
        """Whether a pattern takes a value; what it binds is bound."""
        if isinstance(pattern, ast.MatchValue):
            return truth(self._compared(ast.Eq(), subject, self.eval(pattern.value)))
        if isinstance(pattern, ast.MatchSingleton):
            return truth(self._compared(ast.Is(), subject, Const(pattern.value)))
        if isinstance(pattern, ast.MatchOr):
            return _any({self._fits(each, subject) for each in pattern.patterns})
        if isinstance(pattern, ast.MatchAs):
            if pattern.name:
                self.scope.names[pattern.name] = subject
            return True if pattern.pattern is None else self._fits(pattern.pattern, subject)
        parts = pattern.patterns if isinstance(pattern, ast.MatchSequence) else []
        if parts and isinstance(subject, Seq) and not any(isinstance(part, ast.MatchStar) for part in parts):
            if len(parts) != len(subject.items):
                return False
            return _all({self._fits(part, item) for part, item in zip(parts, subject.items, strict=True)})
        for part in ast.walk(pattern):
            if isinstance(part, (ast.MatchAs, ast.MatchStar)) and part.name:
                self.scope.names[part.name] = UNKNOWN
        return None


def _any(found: set[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def _all(found: set[bool | None]) -> bool | None:
    return False if False in found else None if None in found else True
