"""What SGLang's groups take from modules that a bare SGLang cannot import, which want packages that no platform needs.

Each gives the groups one name, and stands here in its place where the module is not to be had. It does what the module
does in a process without a server. What stands in is taken away at once: whoever asks for the module itself meets it,
or what it lacks.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, NoReturn

_SAMPLER = "sglang.srt.layers.sampler"
_BOOTSTRAP = "sglang.srt.distributed.bootstrap"
_SERVER_ARGS = "sglang.srt.server_args"
_COMMUNICATORS = "sglang.srt.distributed.device_communicators"
# What a coordinator imports when it is made (0.5.11 and 0.5.23, srt/distributed/parallel_state.py).
_TAKEN = (
    f"{_COMMUNICATORS}.pynccl",
    f"{_COMMUNICATORS}.pynccl_allocator",
    f"{_COMMUNICATORS}.pymscclpp",
    "sglang.srt.layers.dp_attention",
)


def load() -> None:
    """Import what making groups imports, as far as it can be, without SGLang's arguments where they are not to be had.

    Up to 0.5.15 those modules take one function from the arguments' module, which takes most of SGLang with it.
    """
    for name in _TAKEN:
        if not _is_imported(name):
            with _in_place_of(_SERVER_ARGS, get_global_server_args=_no_server):
                _is_imported(name)
    _is_imported(_SAMPLER)


def _is_imported(name: str) -> bool:
    try:
        importlib.import_module(name)
    except Exception:  # transformers of another version than SGLang's fails in other ways than by not being there
        return False
    return True


def _no_server() -> NoReturn:
    # 0.5.11, srt/server_args.py; who calls it (pynccl_allocator, pymscclpp) takes the error for "no symmetric memory".
    raise ValueError("no server has set its arguments in this process")


def sampler() -> AbstractContextManager[None]:
    """Let the groups be made without SGLang's sampler, where it is not imported.

    initialize_model_parallel takes one switch from there (0.5.11 to 0.5.23), and nothing else of it.
    """
    switch = os.environ.get("SYNC_TOKEN_IDS_ACROSS_TP", "").lower() in ("1", "true")
    return _in_place_of(_SAMPLER, SYNC_TOKEN_IDS_ACROSS_TP=switch)


def bootstrap() -> AbstractContextManager[None]:
    """Let the groups be destroyed without SGLang's start-up, where it is not imported: it takes most of SGLang with it.

    destroy_model_parallel lets it forget that it has made the groups (0.5.23); it has not, while it is not imported.
    """
    return _in_place_of(_BOOTSTRAP, reset_parallel_initialised=lambda: None)


@contextlib.contextmanager
def _in_place_of(name: str, **contents: Any) -> Iterator[None]:
    """For a while, a module of that name that has no more than this; unless the module itself is imported."""
    if name in sys.modules:
        yield
        return
    instead = ModuleType(name)
    vars(instead).update(contents)
    sys.modules[name] = instead
    try:
        yield
    finally:
        del sys.modules[name]
