"""The secret that the controller and the agents of a cluster share: where it is found, and when it is no good.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "SGLANG_CONFORMANCE_SECRET"
LEAST_BYTES = 16
_MOST_BYTES = 4096
_WORLD = 0o006
_HOW = (
    "make one with 'umask 077; openssl rand -hex 32 > conformance.secret', copy it to every host, and give it with "
    f"--secret-file, or its content in {VARIABLE}"
)


class SecretError(ValueError):
    """There is no secret, or none that may be used."""


def take_secret(file: str | os.PathLike[str] | None, environment: MutableMapping[str, str]) -> bytes:
    """The secret from a file, or else from the environment, without white space around it.

    It is taken out of the environment either way: what a vendor's code inherits must not hold it. Raises SecretError
    where there is none, or it is too short, or others may read or change its file.
    """
    given = environment.pop(VARIABLE, None)
    if file is not None:
        secret, source = _read(Path(file)), f"the secret in {file}"
    elif given is not None:
        secret, source = given.encode("utf-8", "surrogateescape").strip(), f"the secret in {VARIABLE}"
    else:
        raise SecretError(f"the controller and the agents need a secret that they share: {_HOW}")
    if len(secret) < LEAST_BYTES:
        raise SecretError(f"{source} has {len(secret)} bytes, and {LEAST_BYTES} are the least: {_HOW}")
    return secret


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SecretError(f"the secret's file {path} cannot be read: {error.strerror}") from error
    if mode & _WORLD:
        raise SecretError(f"every user of this machine may open the secret's file {path}: 'chmod 600 {path}' mends it")
    if len(content) > _MOST_BYTES:
        raise SecretError(f"the secret's file {path} is longer than {_MOST_BYTES} bytes: is it the right one?")
    return content.strip()
