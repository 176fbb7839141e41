"""PKG: packaging and entry points, as the metadata tells and as the first import shows.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from ..contract.model import Contract
from ..hosts.story import Story
from ..probes.world import canonical
from ..subject import Subject
from . import expect, steps
from .declare import in_controller, requirement

_DIFFUSION_GROUPS = ("sglang.multimodal_gen.platforms", "sglang.multimodal_gen.plugins")


def _import(subject: Subject) -> str:
    return f"import of {subject.entry_point.value if subject.entry_point else subject.name}"


@requirement("PKG-001")
@in_controller
def test_platform_is_registered_in_the_group_that_sglang_reads(subject: Subject, contract: Contract) -> None:
    group = contract.groups["platforms"]
    elsewhere = ", ".join(f"{e.name} in [{e.group}]" for e in subject.entry_points if e.group != group)
    expect.that(
        subject.registered,
        expected=f"an entry point {subject.name!r} in the group [{group}]",
        seen=elsewhere or "none",
        call=f'importlib.metadata.entry_points(group="{group}")',
        where=f"entry_points.txt of {subject.distribution}",
        cause="the group's name is misspelt, or of another release; SGLang never sees this plugin",
    )


@requirement("PKG-002")
@in_controller
def test_one_distribution_provides_the_name(subject: Subject) -> None:
    owners = [f"{e.distribution} ({e.value})" for e in subject.registered]
    expect.that(
        len(owners) <= 1,
        expected=f"one entry point that provides the platform {subject.name!r}",
        seen=", ".join(owners),
        where=f"entry_points.txt of {subject.distribution}",
        cause="two installed distributions use one name; which of them SGLang takes depends on the order of the path",
    )


@requirement("PKG-003")
@in_controller
def test_entry_point_imports(story: Story, subject: Subject) -> None:
    steps.came_through(story, "import", call=_import(subject), where=steps.package_place(subject))


@requirement("PKG-004")
@in_controller
def test_entry_point_names_a_callable(story: Story, subject: Subject) -> None:
    step = steps.came_through(story, "import", call=_import(subject))
    expect.that(
        step.value["callable"],
        expected="a function that takes nothing",
        seen="something that cannot be called",
        call=subject.entry_point.value if subject.entry_point else "",
        where=str(step.value["where"]),
    )


@requirement("PKG-005")
@in_controller
def test_import_leaves_shared_variables_alone(story: Story, subject: Subject, contract: Contract) -> None:
    steps.kept_shared_variables(steps.walked(story, "import"), subject, contract, call=_import(subject))


@requirement("PKG-006")
@in_controller
def test_import_leaves_the_environment_alone(story: Story, subject: Subject) -> None:
    steps.kept_variables(steps.walked(story, "import"), call=_import(subject))


@requirement("PKG-007")
@in_controller
def test_import_patches_nothing(story: Story, subject: Subject) -> None:
    steps.patched_nothing(steps.walked(story, "import"), own=steps.package_of(subject), call=_import(subject))


@requirement("PKG-008")
@in_controller
def test_import_brings_in_no_subsystem_of_sglang(story: Story, subject: Subject) -> None:
    steps.imported_no_subsystem(steps.walked(story, "import"), call=_import(subject))


@requirement("PKG-009")
@in_controller
def test_import_starts_nothing(story: Story, subject: Subject) -> None:
    steps.started_nothing(steps.walked(story, "import"), call=_import(subject))


@requirement("PKG-010")
@in_controller
def test_import_initialises_no_device(story: Story, subject: Subject) -> None:
    steps.started_no_device(steps.walked(story, "import"), call=_import(subject))


@requirement("PKG-011")
@in_controller
def test_declared_dependencies_are_installed(subject: Subject, contract: Contract, host: str) -> None:
    known = {"sglang": contract.release} if host == "reference" else {}
    unmet = [text for text in subject.requires if not _is_met(text, known)]
    expect.that(
        not unmet,
        expected="every declared dependency installed, in its range",
        seen=f"not met: {steps.listed(unmet)}",
        where=f"METADATA of {subject.distribution}",
    )


def _is_met(text: str, known: Mapping[str, str]) -> bool:
    """Whether a declared dependency is there; ``known`` are versions that no installed distribution tells."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return False
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return True
    try:
        version = known.get(canonical(wanted.name)) or importlib.metadata.version(wanted.name)
        return wanted.specifier.contains(version, prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


@requirement("PKG-012")
@in_controller
def test_name_can_be_listed_and_is_no_built_in(subject: Subject, contract: Contract) -> None:
    fits = re.fullmatch(r"[^,\s][^,]*(?<!\s)", subject.name)
    expect.that(
        fits,
        expected="a name without commas or outer spaces: SGLANG_PLUGINS is a comma-separated list",
        seen=repr(subject.name),
        where=f"entry_points.txt of {subject.distribution}",
    )
    expect.that(
        subject.name not in contract.detection,
        expected="a name of its own",
        seen=f"{subject.name!r}, which is a platform built into SGLang {contract.release}",
        where=f"entry_points.txt of {subject.distribution}",
    )


@requirement("PKG-013")
@in_controller
def test_every_entry_point_is_in_a_group_that_sglang_reads(subject: Subject, contract: Contract) -> None:
    known = {*contract.groups.values(), *_DIFFUSION_GROUPS}
    points = (*subject.entry_points, *subject.siblings)
    lost = [f"{e.name} in [{e.group}]" for e in points if _is_of_sglang(e.group) and e.group not in known]
    expect.that(
        not lost,
        expected=f"groups that SGLang {contract.release} reads: {', '.join(sorted(contract.groups.values()))}",
        seen=steps.listed(lost),
        where=f"entry_points.txt of {subject.distribution}",
    )


def _is_of_sglang(group: str) -> bool:
    """Whether a group's name says that SGLang reads it; ``sglang_acme.kernels`` is the vendor's own."""
    return group == "sglang" or group.startswith("sglang.")


@requirement("PKG-014")
@in_controller
def test_version_is_a_version(subject: Subject) -> None:
    version = subject.entry_point.version if subject.entry_point else ""
    try:
        Version(version)
    except InvalidVersion:
        expect.fail(
            expected="a version as PEP 440 has it, for a certificate to name",
            seen=repr(version),
            where=f"METADATA of {subject.distribution}",
        )


@requirement("PKG-015")
@in_controller
def test_import_leaves_torchs_defaults_alone(story: Story, subject: Subject) -> None:
    steps.kept_defaults(steps.walked(story, "import"), call=_import(subject))


@requirement("PKG-016")
@in_controller
def test_import_leaves_the_settings_of_the_process_alone(story: Story, subject: Subject) -> None:
    steps.kept_settings(steps.walked(story, "import"), call=_import(subject))
