"""Whether a call fits the parameters of a function, by what both say: pure, and the same for all kinds of findings."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameters:
    """What a function takes. ``positional`` by place, of which the first ``required`` must be given.

    ``by_name`` are those that also have a name, ``keyword`` those that only have one (True: must be given). ``rest``
    and ``others``: it has ``*args``, ``**kwargs``.
    """

    positional: tuple[str, ...]
    required: int
    by_name: frozenset[str]
    keyword: tuple[tuple[str, bool], ...]
    rest: bool
    others: bool

    @classmethod
    def of(cls, node: ast.arguments, *, bound: int = 0) -> Parameters:
        """Those of a definition; the first ``bound`` are given already, as ``self`` is."""
        every = [a.arg for a in (*node.posonlyargs, *node.args)]
        named = [a.arg for a in node.args]
        positional = tuple(every[bound:])
        required = max(0, len(every) - len(node.defaults) - bound)
        keyword = tuple((a.arg, d is None) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True))
        by_name = frozenset(name for name in positional if name in named)
        return cls(positional, required, by_name, keyword, node.vararg is not None, node.kwarg is not None)

    def dropped(self, count: int) -> Parameters:
        """Without the first ``count``, which are given; a ``*args`` takes as many as there are."""
        positional = self.positional[count:]
        return Parameters(
            positional,
            max(0, self.required - count),
            self.by_name & set(positional),
            self.keyword,
            self.rest,
            self.others,
        )

    @property
    def names(self) -> frozenset[str]:
        """All that can be given by name."""
        return self.by_name | {name for name, _ in self.keyword}

    def takes(self, name: str) -> bool:
        """Whether an argument of that name can be given."""
        return self.others or name in self.names


@dataclass(frozen=True)
class Given:
    """What a call gives: so many by place, and these names; ``open`` where ``*x`` or ``**x`` may give more."""

    positional: int
    keywords: tuple[str, ...] = ()
    open: bool = False

    def __str__(self) -> str:
        places = [f"{self.positional} by place"] if self.positional else []
        return ", ".join([*places, *(f"{name}=" for name in self.keywords)]) or "nothing"


def misfit(given: Given, taken: Parameters) -> str:
    """Why a call is a TypeError; empty where it is none, or where that cannot be told."""
    if given.positional > len(taken.positional) and not taken.rest:
        return f"it is given {_count(given.positional)} and takes {len(taken.positional) or 'none'}"
    for name in given.keywords:
        if not taken.takes(name):
            return f"it has no parameter {name}"
        if name in taken.positional[: given.positional]:
            return f"it is given {name} by place and by name"
    if given.open:
        return ""
    lacking = [n for n in taken.positional[given.positional : taken.required] if n not in given.keywords]
    lacking += [name for name, needed in taken.keyword if needed and name not in given.keywords]
    return f"it requires {_listed(lacking)}, which is not given" if lacking else ""


def stands_in(new: Parameters, old: Parameters) -> tuple[str, str]:
    """Why one function cannot stand where the other is called: for every call, and for some calls only.

    Both empty where it takes all that the other takes. For every call: what the other requires, this one does not take,
    or it requires what the other has not. For some: what the other takes in addition.
    """
    most, least = len(old.positional), old.required
    if least > len(new.positional) and not new.rest:
        return f"it takes {len(new.positional)} by place, and {least} are given", ""
    extra = [n for n in new.positional[: new.required] if not _is_given(n, new, old)]
    if extra:
        return f"it requires {_listed(extra)}, which is not given", ""
    extra = [name for name, needed in new.keyword if needed and name not in dict(old.keyword) and not old.others]
    extra = [name for name in extra if name not in old.by_name]
    if extra:
        return f"it requires {_listed(extra)}, which is not given", ""
    lacking = [name for name, needed in old.keyword if needed and not new.takes(name)]
    if lacking:
        return f"it does not take {_listed(lacking)}", ""
    return "", _some_calls(new, old, most)


def _is_given(name: str, new: Parameters, old: Parameters) -> bool:
    place = new.positional.index(name)
    by_place = place < len(old.positional) or old.rest
    # By name, only what no caller gives by place: else what stands before it would be missing.
    return by_place or (name in new.by_name and (name in dict(old.keyword) or old.others))


def _some_calls(new: Parameters, old: Parameters, most: int) -> str:
    if most > len(new.positional) and not new.rest:
        beyond = [n for n in old.positional[len(new.positional) :] if not (new.takes(n) and n in dict(new.keyword))]
        if beyond:
            return f"it does not take {_listed(beyond)}"
    lacking = [name for name, _ in old.keyword if not new.takes(name)]
    if lacking:
        return f"it does not take {_listed(lacking)}"
    return ""


def given(node: ast.Call) -> Given:
    """What a call in the plugin's own code gives."""
    stars = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
    places = sum(not isinstance(a, ast.Starred) for a in node.args)
    return Given(places, tuple(k.arg for k in node.keywords if k.arg), stars)


def _count(number: int) -> str:
    return f"{number} argument{'s' if number != 1 else ''} by place"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
