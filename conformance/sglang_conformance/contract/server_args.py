"""The server arguments of one SGLang release, as a frozen dataclass that reads from and writes to plain JSON.

A table is made by :mod:`.extract_server_args` from a released package and read back by :mod:`.tables`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ServerArguments:
    """The server arguments of one release.

    ``fields`` maps each field to its default, as a JSON value; it is None for those in ``required``, which have no
    default, and for those in ``computed``, whose default depends on the machine. ``members`` is what else the class
    has: methods, properties and constants. ``attention_backends`` and ``quantizations`` are the choices of those names.
    ``types`` says what a field may hold (``int | None``; ``any`` where only running it tells), ``choices`` which texts,
    for the fields that have such a list.
    ``records_writes``: in place of the object itself, a platform is handed a view that keeps aside what is assigned to
    it, and forgets what is no field (from 0.5.20 on, srt/arg_groups/overrides.py).
    """

    release: str
    records_writes: bool
    attention_backends: tuple[str, ...]
    quantizations: tuple[str, ...]
    members: tuple[str, ...]
    fields: Mapping[str, Any]
    types: Mapping[str, str]
    choices: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...]
    computed: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The table as plain JSON data; :meth:`from_json` reads it back unchanged."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ServerArguments:
        """Read a table; raises KeyError or TypeError where the data is not one."""
        return cls(
            release=data["release"],
            records_writes=data["records_writes"],
            attention_backends=tuple(data["attention_backends"]),
            quantizations=tuple(data["quantizations"]),
            members=tuple(data["members"]),
            fields=dict(data["fields"]),
            types=dict(data["types"]),
            choices={name: tuple(texts) for name, texts in data["choices"].items()},
            required=tuple(data["required"]),
            computed=tuple(data["computed"]),
        )
