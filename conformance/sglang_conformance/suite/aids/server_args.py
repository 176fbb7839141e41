"""Server arguments as a platform is handed them: a stand-in with the fields and the manners of SGLang's own.

SGLang's ``ServerArgs`` cannot be made without half of the server, and a model. What a platform does to it can be seen
on any object with its fields, which the kit has read out of each release (``contract/server_args.py``).

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ...contract import extract_server_args, tables
from ...contract.server_args import ServerArguments
from .. import expect
from . import graph_settings

_MODEL = "model"  # what the user gives for a field that has no default: the model's path, in every release so far
_CONSTANT = (str, int, float, type(None))


@cache
def table(release: str) -> ServerArguments:
    """The server arguments of a release: its table, else what its own package says, where that is the host here.

    On the reference host, a release without a table has those of the nearest earlier one. Raises NotCovered where the
    installed package cannot be read, and ContractError where every table is of a later release.
    """
    if release in tables.server_args_releases():
        return tables.load_server_args(release)
    package = _installed_package()
    if package is None:
        return tables.load_server_args_before(release)
    try:
        return extract_server_args.extract(package, release)
    except extract_server_args.ContractError as error:
        text = f"the server arguments of the installed SGLang {release} cannot be read: {error}"
        raise expect.NotCovered(text) from error


def _installed_package() -> Path | None:
    """The folder of the SGLang that this process has entered; None on the reference host, or outside any."""
    folders = map(Path, getattr(sys.modules.get("sglang"), "__path__", ()))
    return next((folder for folder in folders if (folder / extract_server_args.SERVER_ARGS).is_file()), None)


class NotCovered(AttributeError):
    """The same as :class:`.expect.NotCovered`, which the kit knows by its name, of an attribute.

    A platform that asks with ``hasattr``, or with a default, goes on.
    """


class Arguments:
    """An ordinary object with the fields as attributes: what a platform is handed where nothing is recorded.

    ``private`` is what SGLang has noted on its own object by then.
    """

    def __init__(self, values: Mapping[str, Any], members: tuple[str, ...], private: Mapping[str, Any]) -> None:
        vars(self).update(values)
        vars(self).update(private)
        object.__setattr__(self, "_members", members)

    def __getattr__(self, name: str) -> Any:
        lacking = f"the platform uses ServerArgs.{name}, which the kit's stand-in does not have"
        if not name.startswith("__") and name in vars(self).get("_members", ()):
            raise expect.NotCovered(lacking)
        if name.startswith("_") and not name.startswith("__"):
            raise NotCovered(lacking)
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


class Configuration:
    """One user's configuration, to hand to a platform and to look at afterwards."""

    def __init__(self, release: str, device: str, chosen: Mapping[str, Any]) -> None:
        self._table = table(release)
        values = {**self._table.fields, **_resolved_before(self._table, device, chosen), **chosen}
        self._before = _copied(values)
        self._arguments = Arguments(_copied(values), self._table.members, _noted(self._table, chosen))
        self.handed: Any = Recorder(self._arguments) if self._table.records_writes else self._arguments

    @property
    def unknown(self) -> dict[str, Any]:
        """What the platform assigned that is no field of the release; what it notes for itself begins with ``_``."""
        own = {name: value for name, value in self._all().items() if name not in self._table.fields}
        return {name: value for name, value in own.items() if not name.startswith("_")}

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
        own = vars(self._arguments)
        return {**own, **object.__getattribute__(self.handed, "_written")} if self._table.records_writes else own


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with those that can be altered in place copied: hundreds of fields, and few of that kind."""
    return {name: value if isinstance(value, _CONSTANT) else copy.deepcopy(value) for name, value in values.items()}


def _noted(known: ServerArguments, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What SGLang notes on its object before it asks: which graph settings are the user's, and what the user gave.

    The first from 0.5.14 on, the second from 0.5.19 on (srt/arg_groups/pipeline.py).
    """
    noted: dict[str, Any] = {}
    if "cuda_graph_config" in known.fields:
        noted["_cuda_graph_config_locked"] = set(graph_settings.chosen_by(chosen))
    if known.records_writes or known.release == "0.5.19":
        noted["_raw_input"] = _copied({**known.fields, **dict.fromkeys(known.required, _MODEL), **chosen})
    return noted


def _resolved_before(known: ServerArguments, device: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What the user must give, and what SGLang has filled in itself by the time it asks the platform."""
    values: dict[str, Any] = {
        **dict.fromkeys(known.required, _MODEL),
        "device": device,
        "tokenizer_path": _MODEL,
        "served_model_name": _MODEL,
        "random_seed": 42,
        "mm_process_config": {},
    }
    if "cuda_graph_config" in known.fields:
        values["cuda_graph_config"] = graph_settings.resolved(chosen)
    return {name: value for name, value in values.items() if name in known.fields}
