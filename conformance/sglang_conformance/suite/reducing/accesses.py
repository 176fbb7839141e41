"""What SGLang keeps of tested peer access, in files that it may have been left with.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ...certificate.model import Finding
from .. import expect
from . import choices
from .machines import Stand, uuid
from .worlds import unlinked

_CALL = "custom_all_reduce_utils.gpu_p2p_access_check(0, 1)"
_PATIENCE = 4.0  # seconds for one question, whose test is imagined


def settled(*, hooked: bool = True) -> None:
    """Whatever file is there, two devices without access are found to have none, and two that have it, to have it."""
    for words, spoil in _SPOILT.items():
        for has in (True, False):
            call = f"{_CALL} of devices {'with' if has else 'without'} access, {words}"
            try:
                seen = choices.on_imagined_machines(partial(_asked, spoil, has), hooked=hooked, deadline=_PATIENCE)
            except expect.Violation as violation:
                raise expect.Violation(Finding(**{**violation.finding, "call": call})) from None
            expect.equal(seen, has, call=call)


def _asked(spoil: Callable[[Path], None], has: bool, stand: Stand) -> bool:
    """Ask twice in a folder of its own: once, so that there is a file; and after that was spoilt, as a new process."""
    with _folder() as folder:
        choices.answers(stand, unlinked(2))
        stand.sit(0)
        utils = importlib.import_module(choices.UTILS)
        _imagine_tests(utils, has)
        _keep_in(folder)
        for change in (lambda path: None, spoil):
            vars(utils)["_gpu_p2p_access_cache"] = None
            change(folder)
            answer = bool(utils.gpu_p2p_access_check(0, 1))
        return answer


def _imagine_tests(utils: Any, has: bool) -> None:
    """In the place of the test itself: SGLang's runs this very module in another process, and reads what that wrote."""

    def test(sources: Any, targets: Any) -> list[bool]:
        return [one == other or has for one, other in zip(sources, targets, strict=True)]

    vars(utils)["can_actually_p2p"] = test
    if "subprocess" in vars(utils) and "pickle" in vars(utils):
        vars(utils)["subprocess"] = _Processes(utils.pickle, test)


class _Processes:
    """In the place of the module subprocess, for the one program that SGLang runs here."""

    def __init__(self, pickle: Any, test: Callable[[Any, Any], list[bool]]) -> None:
        self._pickle = pickle
        self._test = test

    def run(self, program: Any, input: bytes = b"", **_: Any) -> Any:
        """Do what the program does."""
        sources, targets, path = self._pickle.loads(input)
        Path(path).write_bytes(self._pickle.dumps(self._test(sources, targets)))
        return self

    def check_returncode(self) -> None:
        """It went well."""


@contextmanager
def _folder() -> Any:
    path = Path(tempfile.mkdtemp(prefix="sglang-access-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _keep_in(folder: Path) -> None:
    """Have SGLang keep its files there: by its variable, and up to 0.5.12, which has none, by the user's home."""
    os.environ.update(SGLANG_CACHE_DIR=str(folder), HOME=str(folder))


def _each_file(folder: Path) -> list[Path]:
    return list(folder.rglob("*.json"))


def _truncate(folder: Path) -> None:
    for path in _each_file(folder):
        path.write_bytes(path.read_bytes()[:-9])


def _empty(folder: Path) -> None:
    for path in _each_file(folder):
        path.write_bytes(b"")


def _fill(folder: Path) -> None:
    for path in _each_file(folder):
        path.write_bytes(b"\x00\xff garbage")


def _list(folder: Path) -> None:
    for path in _each_file(folder):
        path.write_text(json.dumps(["0->1", True]))


def _remove(folder: Path) -> None:
    for path in _each_file(folder):
        path.unlink()


def _bar(folder: Path) -> None:
    """No file can be written: another file is in the folder's place."""
    _keep_in(folder / "file" / "cache")
    (folder / "file").write_text("")


def _sixteen(folder: Path) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(uuid(number) for number in range(16))


_SPOILT: dict[str, Callable[[Path], None]] = {
    "the file as it was written": lambda folder: None,
    "the file gone": _remove,
    "the file truncated": _truncate,
    "the file empty": _empty,
    "garbage in the file": _fill,
    "a list in the file": _list,
    "a folder that cannot be written": _bar,
    "devices told by sixteen UUIDs": _sixteen,
}
