"""Which class of custom all-reduce a group gets.

Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/device_communicators/custom_all_reduce.py. A plugin brings one for its
device by a hook on :func:`dispatch_custom_allreduce`; the group then makes an object of the class that it gives.
"""

from __future__ import annotations

from typing import Any

from sglang_reference._errors import not_covered

from ..._released import Lifetime, Parameters, released
from .._devices import kind_of_device

_KINDS = ("cuda", "musa", "rocm")  # the devices for which SGLang has a class


@released(Parameters({"group": Lifetime("0.5.13"), "device": Lifetime("0.5.13")}))
def dispatch_custom_allreduce(group: Any = None, device: Any = None) -> type:
    """The class for the ranks of ``group`` on ``device``.

    Raises AssertionError on a device for which SGLang has none: the group then goes without.
    """
    kind = kind_of_device()
    assert kind in _KINDS, f"SGLang has one for {', '.join(_KINDS)}, and none for {kind or 'this device'}"
    raise not_covered(f"the custom all-reduce for {kind}")
