"""Building plugins for the zoo: a right one, copied to a folder and installed there, with one small change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PLUGINS = Path(__file__).parent / "plugins"
SIMULATED = Path(__file__).parents[2] / "reference" / "sglang_simulated" / "sglang_simulated"

_ENTRY_POINTS = """\
[sglang.srt.platforms]
{name} = {package}:activate

[sglang.srt.plugins]
{name}_hooks = {package}.hooks:register
"""

_METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


@dataclass(frozen=True)
class Plugin:
    """A right plugin: its platform's name, its distribution, its package, and where its source stands."""

    name: str
    distribution: str
    package: str
    source: Path
    entry_points: str = _ENTRY_POINTS


ACME = Plugin("acme", "acme-plugin", "acme", PLUGINS / "acme")
SIM = Plugin("sim", "sglang-simulated", "sglang_simulated", SIMULATED)
RIGHT: Mapping[str, Plugin] = {"acme": ACME, "sim": SIM}


@dataclass(frozen=True)
class Edit:
    """One change: in ``file`` of the package, what reads ``old`` (exactly once) reads ``new``.

    The files ``entry_points.txt`` and ``METADATA`` are those of its distribution; an empty ``old`` appends.
    """

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        if not self.old:
            return text + self.new
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.file}: {self.old!r} stands there {count} times, not once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Defect:
    """A deliberately wrong plugin, and the requirement that must catch it.

    ``also`` are further requirements that may rightly fail with it. ``release`` is the contract it is wrong under.
    ``deadline`` is that of its probes, in seconds: short for those that hang. ``world_size`` is that of its groups.
    ``says`` is told in the finding, such as the member at fault.
    """

    name: str
    requirement: str
    edits: tuple[Edit, ...]
    of: str = "acme"
    also: tuple[str, ...] = ()
    release: str = "0.5.23"
    environment: Mapping[str, str] = field(default_factory=dict)
    deadline: float = 10.0
    world_size: str = "2"
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A right plugin, written otherwise than the example that it is ``of``, and SGLang's reason why it is right.

    ``requirements`` are those whose checks it meets, with all that these stand on: none of them may end otherwise than
    as a pass or as unsupported.
    """

    name: str
    requirements: tuple[str, ...]
    edits: tuple[Edit, ...]
    why: str
    of: str = "acme"
    release: str = "0.5.23"
    deadline: float = 10.0


def build(plugin: Plugin, folder: Path, edits: tuple[Edit, ...] = ()) -> Path:
    """Install the plugin, with the edits made, into a folder to put on the import path; returns the folder."""
    files = {str(file.relative_to(plugin.source)): file.read_text() for file in sorted(plugin.source.rglob("*.py"))}
    files["entry_points.txt"] = plugin.entry_points.format(name=plugin.name, package=plugin.package)
    files["METADATA"] = _METADATA.format(name=plugin.distribution, version="1.0")
    for edit in edits:
        files[edit.file] = edit.apply(files.get(edit.file, ""))
    homes = dict.fromkeys(("entry_points.txt", "METADATA"), _metadata(plugin))
    for name, text in files.items():
        path = folder / homes.get(name, plugin.package) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _metadata(plugin: Plugin) -> str:
    return f"{plugin.distribution.replace('-', '_')}-1.0.dist-info"
