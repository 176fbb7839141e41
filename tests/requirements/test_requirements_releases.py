"""The releases that a requirement holds for, against what the contract tables say of the members that it covers.

Where a bound is not what the tables give, the reason stands here; a reason that is not needed fails too.
"""

from __future__ import annotations

from packaging.version import Version

from sglang_conformance.contract import tables
from sglang_conformance.requirements import loader
from sglang_conformance.requirements.loader import Catalogue
from sglang_conformance.requirements.model import PROFILES, Requirement

CATALOGUE = loader.load()
CONTRACTS = {release: tables.load(release) for release in tables.releases()}

# A release has none of the members, and the requirement holds all the same.
WITHOUT_MEMBERS = {
    "PG-011": "every release is told the local rank; from 0.5.23 on it asks the platform for the device of it",
}

# Core calls the first member that is named, and the requirement does not hold.
CALLED_AND_FREE = {
    "CAP-015": "0.5.22 has no word for PyNCCL",
    "NCCL-001": "0.5.22 has no word for PyNCCL",
    "FAC-004": "adaptive speculation makes runners from 0.5.23 on",
    "FAC-019": "before 0.5.22 no allocator for sliding windows is the platform's",
    "FAC-020": "from 0.5.14 on the runner is asked can_run_graph",
    "FAC-021": "before 0.5.14 the runner is asked can_run",
    "FAC-022": "before 0.5.22 the log does not read it off the runner",
    "FAC-028": "before 0.5.22 there is no word for Triton",
    "FAC-039": "before 0.5.17 slots are given back by free() alone",
    "FAC-040": "from 0.5.17 on allocators have nothing to restore",
    "FAC-041": "before 0.5.22 no allocator for sliding windows is the platform's",
    "ARG-006": "before 0.5.20 the platform is handed the arguments themselves, and what it alters in them counts",
    "BE-006": "from 0.5.14 on SGLang asks the platform, and needs no hook",
}

# It must be kept, and core calls none of the members.
REQUIRED_UNCALLED = {
    "ID-003": "core does not read _enum, but asks the queries that are computed from it",
    "INIT-007": "before 0.5.14 core has the type of the device from its own arguments",
    "BE-005": "before 0.5.14 it says that the answer must not reach other devices",
    "PG-001": "before 0.5.14 a hook brings the backend to SGLang",
    "PG-004": "before 0.5.14 a hook brings the backend to SGLang",
    "PG-009": "before 0.5.14 a hook brings the backend to SGLang",
    "PG-010": "it says that nobody calls it behind the worker's back",
    "PG-011": WITHOUT_MEMBERS["PG-011"],
}


def holds(requirement: Requirement) -> set[str]:
    alone = Catalogue((requirement,), {})
    in_tree = requirement.scope == "in-tree"
    return {release for release in CONTRACTS if alone.applying(release, in_tree=in_tree, profiles=PROFILES)}


def having(member: str) -> set[str]:
    return {release for release, contract in CONTRACTS.items() if contract.has(member)}


def calling(member: str) -> set[str]:
    return {release for release, contract in CONTRACTS.items() if any(m.name == member for m in contract.called())}


COVERING = [requirement for requirement in CATALOGUE if requirement.members]


def test_no_requirement_holds_where_the_release_has_none_of_its_members() -> None:
    found = {r.id for r in COVERING if holds(r) - set().union(*map(having, r.members))}
    assert found == WITHOUT_MEMBERS.keys()


def test_every_requirement_holds_where_core_calls_the_member_that_it_is_about() -> None:
    found = {r.id for r in COVERING if calling(r.members[0]) - holds(r)}
    assert found == CALLED_AND_FREE.keys()


def test_nothing_is_required_that_core_never_calls() -> None:
    found = {r.id for r in COVERING if r.level == "MUST" and holds(r) - set().union(*map(calling, r.members))}
    assert found == REQUIRED_UNCALLED.keys()


def test_every_bound_is_a_release_that_there_is() -> None:
    bounds = {bound for r in CATALOGUE for bound in (r.since, r.until) if bound}
    assert bounds - CONTRACTS.keys() == set()


def test_a_post_release_keeps_what_its_release_keeps() -> None:
    for release in CONTRACTS:
        base = Version(release).base_version
        names = [
            [r.id for r in CATALOGUE.applying(name, in_tree=in_tree, profiles=PROFILES)]
            for name in (release, base)
            for in_tree in (True, False)
        ]
        assert names[:2] == names[2:]
