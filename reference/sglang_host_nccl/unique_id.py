"""The id by which the ranks of one communicator find each other: 128 bytes, made by one of them and given to all."""

from __future__ import annotations

import hashlib
import os

from .codes import UNIQUE_ID_BYTES, Failure, Result

_MAGIC = b"HOSTNCCL"
_DIGEST_BYTES = 16


def make() -> bytes:
    """A new id."""
    body = _MAGIC + os.urandom(UNIQUE_ID_BYTES - len(_MAGIC) - _DIGEST_BYTES)
    return body + _digest(body)


def name_of(unique_id: bytes) -> str:
    """The name under which its ranks meet. Raises Failure for an id that did not come here as it was made."""
    body, digest = unique_id[:-_DIGEST_BYTES], unique_id[-_DIGEST_BYTES:]
    if not body.startswith(_MAGIC):
        raise Failure(Result.INVALID_ARGUMENT, "the unique id is none of this library's: was it sent to this rank?")
    if digest != _digest(body):
        raise Failure(Result.INVALID_ARGUMENT, "the unique id has been changed on its way: 128 bytes must be sent")
    return digest.hex()


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()
