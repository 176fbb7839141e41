"""The record of a run as JSON: written from a certificate, read back into one, sealed by a digest.

``reports/schemas/certificate-1.schema.json`` is the schema. The digest is the SHA-256, in hexadecimal, of the record
without it, as JSON with sorted keys, no spaces and ASCII only. It guards against accident, not against forgery.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, get_args

from .model import (
    OUTCOMES,
    Certificate,
    Finding,
    HostIdentity,
    Outcome,
    PlatformIdentity,
    Run,
    Verdict,
    VerdictName,
)

SCHEMA = "sglang-conformance/certificate/1"

_T = TypeVar("_T")


class RecordError(ValueError):
    """A record cannot be read; its text is one line naming the file and the part."""


def to_json(certificate: Certificate) -> dict[str, Any]:
    """The record as plain data, its digest included. :func:`from_json` gives the same certificate again."""
    run = certificate.run
    platform = asdict(run.platform)
    record = {
        "schema": SCHEMA,
        "kind": run.kind,
        "reasons": list(run.reasons),
        "kit": {"version": run.kit_version, "digest": run.kit_digest},
        "host": asdict(run.host),
        "contract": run.contract,
        "platform": {("class" if key == "class_name" else key): value for key, value in platform.items()},
        "environment": _plain(run.environment),
        "profiles": {verdict.profile: _profile(verdict) for verdict in certificate.profiles},
        "requirements": {outcome.requirement: _outcome(outcome) for outcome in certificate.outcomes},
    }
    return {**record, "digest": digest(record)}


def digest(record: Mapping[str, Any]) -> str:
    """The digest of a record, whether or not it already holds one."""
    sealed = {key: value for key, value in record.items() if key != "digest"}
    canonical = json.dumps(sealed, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def dumps(certificate: Certificate) -> str:
    """The record as the text of ``certificate.json``."""
    return json.dumps(to_json(certificate), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def read(path: Path) -> Certificate:
    """Read a record back. Raises :class:`RecordError`."""
    return from_json(parse(path), path.name)


def parse(path: Path) -> dict[str, Any]:
    """The plain data of a record, of this schema and without repeated keys. Raises :class:`RecordError`."""
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=_unrepeated, parse_constant=_refuse_constant)
    except OSError as error:
        raise RecordError(f"{path.name}: cannot be read: {error.strerror or error}") from None
    except RecordError as error:
        raise RecordError(f"{path.name}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path.name}: is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise RecordError(f"{path.name}: is not a record: a JSON object is expected")
    if data.get("schema") != SCHEMA:
        raise RecordError(f"{path.name}: schema is {data.get('schema')!r}; this kit reads {SCHEMA!r}")
    return data


def from_json(data: Mapping[str, Any], name: str = "record") -> Certificate:
    """A certificate from the plain data of a record, called ``name`` in errors. Raises :class:`RecordError`.

    What a record derives from the rest (digest, kind) is not judged here but by :mod:`.verify`.
    """
    part = _Part(data, name)
    kit, host, platform = part.part("kit"), part.part("host"), part.part("platform")
    profiles, requirements = part.part("profiles"), part.part("requirements")
    part.get("kind", str)
    part.get("digest", str)
    run = Run(
        kit_version=kit.get("version", str),
        kit_digest=kit.get("digest", str),
        host=HostIdentity(host.get("kind", str), host.get("sglang", str), host.get("digest", str)),
        contract=part.get("contract", str),
        platform=PlatformIdentity(
            name=platform.get("name", str),
            distribution=platform.get("distribution", str),
            version=platform.get("version", str),
            class_name=platform.get("class", str),
            digest=platform.get("digest", str),
            in_tree=platform.get("in_tree", bool),
        ),
        profiles=tuple(profiles.data),
        environment=part.part("environment").data,
        reasons=part.texts("reasons"),
    )
    verdicts = tuple(_read_profile(name, profiles.part(name)) for name in profiles.data)
    outcomes = tuple(_read_outcome(name, requirements.part(name)) for name in requirements.data)
    return Certificate(run, verdicts, outcomes)


class _Part:
    """An object within a record that knows its place, for errors that name it."""

    def __init__(self, data: Mapping[str, Any], place: str) -> None:
        self.data = data
        self._place = place

    def get(self, key: str, kind: type[_T]) -> _T:
        if key not in self.data:
            raise RecordError(f"{self._place}: {key} is missing")
        value = self.data[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise RecordError(f"{self._place}: {key} is not of the right kind: {type(value).__name__}")
        return value

    def part(self, key: str) -> _Part:
        return _Part(self.get(key, dict), f"{self._place}: {key}")

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.get(key, list)
        if not all(isinstance(value, str) for value in values):
            raise RecordError(f"{self._place}: {key} is not a list of texts")
        return tuple(values)

    def choice(self, key: str, choices: tuple[str, ...]) -> Any:
        value = self.get(key, str)
        if value not in choices:
            raise RecordError(f"{self._place}: {key} is {value!r}, not one of {', '.join(choices)}")
        return value

    def seconds(self, key: str) -> float:
        value = self.data.get(key)
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else self.get(key, float)


def _profile(verdict: Verdict) -> dict[str, Any]:
    counts: dict[str, Any] = {name: verdict.counts[name] for name in OUTCOMES}
    return {"verdict": verdict.verdict, "required": verdict.required, **counts, "warnings": verdict.warnings}


def _read_profile(name: str, part: _Part) -> Verdict:
    return Verdict(
        profile=name,
        verdict=part.choice("verdict", get_args(VerdictName)),
        required=part.get("required", int),
        counts={outcome: part.get(outcome, int) for outcome in OUTCOMES},
        warnings=part.get("warnings", int),
    )


def _outcome(outcome: Outcome) -> dict[str, Any]:
    data = asdict(outcome)
    del data["requirement"]
    return {**data, "checks": list(outcome.checks)}


def _read_outcome(name: str, part: _Part) -> Outcome:
    finding = None
    if part.data.get("finding") is not None:
        found = part.part("finding")
        finding = Finding(**{key: found.get(key, str) for key in Finding.__dataclass_fields__})
    return Outcome(
        requirement=name,
        outcome=part.choice("outcome", OUTCOMES),
        level=part.choice("level", ("MUST", "SHOULD", "MAY", "provisional")),
        profile=part.get("profile", str),
        checks=part.texts("checks"),
        message=part.get("message", str),
        finding=finding,
        reproduce=part.get("reproduce", str),
        cause=part.get("cause", str),
        seconds=part.seconds("seconds"),
    )


def _plain(value: Any) -> Any:
    """Any value as JSON data: a record must not be lost over an odd value in the environment."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item) for item in value), key=repr)
    if value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value)):
        return value
    return str(value)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RecordError(f"{key} is there twice")
        found[key] = value
    return found


def _refuse_constant(constant: str) -> Any:
    raise RecordError(f"{constant} is no JSON number")
