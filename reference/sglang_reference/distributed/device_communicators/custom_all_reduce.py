"""Which class of custom all-reduce a group gets.

Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/device_communicators/custom_all_reduce.py. A plugin brings one for its
device by a hook on :func:`dispatch_custom_allreduce`; the group then makes an object of the class that it gives.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from sglang_reference._custom_all_reduce import settings

from ..._contract import TABLE
from ..._released import Lifetime, Parameters, released
from .._devices import kind_of_device
from ._first_generation import CustomAllreduce

DEADLINE = 60.0
"""Seconds that the ranks wait for each other at each question that they settle together."""

_KINDS = ("cuda", "musa", "rocm")  # the devices for which SGLang has a class


@released(Parameters({"group": Lifetime("0.5.13"), "device": Lifetime("0.5.13")}))
def dispatch_custom_allreduce(group: Any, device: Any) -> Callable[..., Any]:
    """The class for the ranks of ``group`` on ``device``: the second generation where it is switched on and the group
    can use it, and else the first, which finds out for itself whether it is disabled.

    Raises AssertionError on a device for which SGLang has none, RuntimeError where a rank does not take part within
    ``DEADLINE`` seconds, which SGLang waits for as long as the group does: the group then goes without.
    """
    kind = kind_of_device()
    assert kind in _KINDS, f"SGLang has one for {', '.join(_KINDS)}, and none for {kind or 'this device'}"
    if group is None:
        return _chosen_for_its_group
    with _within(group, DEADLINE):
        return _class_for(kind, group, device)


@contextlib.contextmanager
def _within(group: Any, seconds: float) -> Iterator[None]:
    """A scope in which the ranks of a group of torch.distributed's wait no longer for each other than this."""
    if not isinstance(group, dist.ProcessGroup):
        yield
        return
    backend: Any = group._get_backend(torch.device("cpu"))
    before = backend.options._timeout
    backend._set_default_timeout(timedelta(seconds=seconds))
    try:
        yield
    finally:
        backend._set_default_timeout(before)


def _class_for(kind: str, group: Any, device: Any) -> type:
    if kind == "cuda" and settings.read(os.environ, TABLE["release"]).second:
        from . import custom_all_reduce_v2 as second  # at this moment: a hook may replace what it holds

        if second.can_use_custom_all_reduce_v2(group=group, device=device):
            return second.CustomAllReduceV2
    return CustomAllreduce


def _chosen_for_its_group(group: Any, device: Any) -> Any:
    """Before 0.5.13 the choice is not told the group; but what it gives is, and there the group's is asked."""
    with _within(group, DEADLINE):
        chosen = _class_for(kind_of_device(), group, device)
    return chosen(group=group, device=device)
