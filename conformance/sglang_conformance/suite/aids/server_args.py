"""Server arguments as a platform is handed them: a stand-in with the fields and the manners of SGLang's own.

SGLang's ``ServerArgs`` cannot be made without half of the server, and a model. What a platform does to it can be seen
on any object with its fields, so each release's are a table here: names and defaults, read from the released packages
(0.5.11, srt/server_args.py; 0.5.23, srt/arg_groups/fields).

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from packaging.version import Version

from .. import expect

_FOLDER = Path(__file__).with_name("tables")
_PREFIX = "server_args-"
_CONSTANT = (str, int, float, type(None))


@dataclass(frozen=True)
class Table:
    """The server arguments of one release.

    ``fields`` maps each to its default, ``methods`` are ServerArgs' own, ``attention_backends`` and ``quantizations``
    the choices of those names. ``records_writes``: in place of the object itself, a platform is handed a view that
    keeps aside what is assigned to it, and forgets what is no field (0.5.23, srt/arg_groups/overrides.py).
    """

    release: str
    records_writes: bool
    attention_backends: tuple[str, ...]
    quantizations: tuple[str, ...]
    methods: frozenset[str]
    fields: Mapping[str, Any]


@cache
def table(release: str) -> Table:
    """The table of a release, or of the nearest one before it; raises LookupError before the first."""
    versions = {Version(path.stem.removeprefix(_PREFIX)): path for path in _FOLDER.glob(f"{_PREFIX}*.json")}
    known = [version for version in versions if version <= Version(release)]
    if not known:
        raise LookupError(f"there is no table of server arguments for SGLang {release}")
    data = json.loads(versions[max(known)].read_text(encoding="utf-8"))
    return Table(
        release=data["release"],
        records_writes=data["records_writes"],
        attention_backends=tuple(data["attention_backends"]),
        quantizations=tuple(data["quantizations"]),
        methods=frozenset(data["methods"]),
        fields=data["fields"],
    )


class Arguments:
    """An ordinary object with the fields as attributes: what a platform is handed where nothing is recorded."""

    def __init__(self, values: Mapping[str, Any], methods: frozenset[str]) -> None:
        vars(self).update(values)
        object.__setattr__(self, "_methods", methods)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and name in vars(self).get("_methods", ()):
            raise expect.NotCovered(f"the platform calls ServerArgs.{name}(), which the kit's stand-in does not have")
        raise AttributeError(f"'ServerArgs' object has no attribute {name!r}")


class Recorder:
    """A view of the arguments: reads what was assigned to it last, and leaves the arguments as they are."""

    __slots__ = ("_arguments", "_written")

    def __init__(self, arguments: Arguments) -> None:
        object.__setattr__(self, "_arguments", arguments)
        object.__setattr__(self, "_written", {})

    def __getattr__(self, name: str) -> Any:
        written = object.__getattribute__(self, "_written")
        return written[name] if name in written else getattr(object.__getattribute__(self, "_arguments"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__getattribute__(self, "_written")[name] = value


@dataclass
class GraphPhase:
    """How one phase of a model's forward pass is captured (0.5.23, srt/model_executor/cuda_graph_config.py)."""

    backend: str = "disabled"
    max_bs: int | None = None
    bs: list[int] | None = None


@dataclass
class GraphConfig:
    """The resolved graph settings, as platforms find them from 0.5.23 on."""

    decode: GraphPhase = field(default_factory=lambda: GraphPhase("full"))
    prefill: GraphPhase = field(default_factory=GraphPhase)


class Configuration:
    """One user's configuration, to hand to a platform and to look at afterwards."""

    def __init__(self, release: str, device: str, chosen: Mapping[str, Any]) -> None:
        self._table = table(release)
        values = {**self._table.fields, **_resolved_before(self._table, device), **chosen}
        self._before = _copied(values)
        self._arguments = Arguments(_copied(values), self._table.methods)
        self.handed: Any = Recorder(self._arguments) if self._table.records_writes else self._arguments

    @property
    def unknown(self) -> dict[str, Any]:
        """What the platform assigned that is no field of the release."""
        return {name: value for name, value in self._all().items() if name not in self._table.fields}

    @property
    def values(self) -> dict[str, Any]:
        """Every field as SGLang reads it now."""
        return {name: value for name, value in self._all().items() if name in self._table.fields}

    @property
    def changed(self) -> dict[str, Any]:
        """The fields that differ from what the platform was handed, with what they are now."""
        return {name: value for name, value in self.values.items() if value != self._before[name]}

    @property
    def changed_in_place(self) -> dict[str, Any]:
        """The values that were altered past the view that records: nothing where nothing is recorded."""
        if not self._table.records_writes:
            return {}
        now = vars(self._arguments)
        return {name: now[name] for name, before in self._before.items() if now[name] != before}

    def _all(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self._arguments).items() if name != "_methods"}
        if not self._table.records_writes:
            return own
        return {**own, **object.__getattribute__(self.handed, "_written")}


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with those that can be altered in place copied: hundreds of fields, and few of that kind."""
    return {name: value if isinstance(value, _CONSTANT) else copy.deepcopy(value) for name, value in values.items()}


def _resolved_before(known: Table, device: str) -> dict[str, Any]:
    """What SGLang has filled in itself by the time it asks the platform."""
    values: dict[str, Any] = {
        "device": device,
        "tokenizer_path": known.fields["model_path"],
        "served_model_name": known.fields["model_path"],
        "random_seed": 42,
        "mm_process_config": {},
    }
    if "cuda_graph_config" in known.fields:
        values["cuda_graph_config"] = _graph_config()
    return values


def _graph_config() -> Any:
    """SGLang's own graph settings where this host has them, so that its helpers work on them; else the stand-in."""
    try:
        from sglang.srt.model_executor.cuda_graph_config import CudaGraphConfig, PhaseConfig
    except ImportError:
        return GraphConfig()
    return CudaGraphConfig(decode=PhaseConfig(backend="full"), prefill=PhaseConfig())
