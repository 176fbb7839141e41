"""Which member of a contract is likely another one of an earlier release under a new name."""

from __future__ import annotations

from .model import Contract, Member


def renames(older: Contract, newer: Contract) -> dict[str, str]:
    """The new name of each member of ``older`` that seems to have one in ``newer``.

    Nothing in a release says so. A pair is taken where class, kind and signature are equal, and of three signs two are
    there: the same neighbour in the class, a file of core that uses both, and most words of the name in common.
    """
    gone = [member for member in older.members if not newer.has(member.name)]
    come = [member for member in newer.members if not older.has(member.name)]
    found: dict[str, str] = {}
    for old in gone:
        fitting = [new for new in come if _alike(old, new) and _signs(old, new, older, newer) >= 2]
        # Of several, or of one that another has already, none can be told.
        if len(fitting) == 1 and fitting[0].name not in found.values():
            found[old.name] = fitting[0].name
    return found


def _alike(old: Member, new: Member) -> bool:
    return (old.owner, old.kind, old.signature) == (new.owner, new.kind, new.signature)


def _signs(old: Member, new: Member, older: Contract, newer: Contract) -> int:
    files = [{site.path for site in member.calls} for member in (old, new)]
    words = [set(member.name.split("_")) for member in (old, new)]
    return sum(
        (
            bool(_neighbours(old, older) & _neighbours(new, newer)),
            bool(files[0] & files[1]),
            len(words[0] & words[1]) * 2 > max(map(len, words)),
        )
    )


def _neighbours(member: Member, contract: Contract) -> set[str]:
    names = [each.name for each in contract.members if each.owner == member.owner]
    place = names.index(member.name)
    return {*names[max(place - 1, 0) : place], *names[place + 1 : place + 2]}
