"""SGLang's operators, which the dispatcher of torch finds a kernel for or refuses: nobody's plugin is asked.

SGLang makes operators of its groups' collectives. Up to 0.5.22 it registers each for one of its own devices, CUDA where
it is on none of them (srt/utils/common.py: direct_register_custom_op); tensors of an out-of-tree platform's device are
refused unless a plugin registers kernels for them. 0.5.23 registers them for the key that such devices share.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_REFUSED = re.compile(r"Could not run '(sglang::[\w.]+)' with arguments from the '\w+' backend")
_KEYS = ("CUDA", "PrivateUse1", "XPU", "HPU", "MPS")


def refused(error: BaseException, given: Mapping[str, Any]) -> str:
    """What SGLang lacks where an error says that it has no kernel of an operator of its own for the platform's device.

    ``given``: what the check was given. Empty where that is not what happened, where SGLang has such a kernel, or where
    the platform is SGLang's own.
    """
    platform = given.get("platform")
    if given.get("host") != "installed" or platform is None or not platform.is_out_of_tree():
        return ""
    for told in _texts(error):
        found = _REFUSED.match(told)
        keys = _keys(found.group(1)) if found else []
        if found and keys and _key(platform) not in keys:
            return (
                f"SGLang registers its operator {found.group(1)} for {' and '.join(keys)} alone, not for "
                f"{platform.device_type}, the device of an out-of-tree platform "
                "(srt/utils/common.py: direct_register_custom_op)"
            )
    return ""


def _texts(error: BaseException | None) -> Iterator[str]:
    """What an error and those that it came of say; only those that torch raises where it finds no kernel."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, NotImplementedError):
            yield str(error)
        error = error.__cause__ or error.__context__


def _keys(operator: str) -> list[str]:
    """The devices' dispatch keys that an operator has a kernel for; none of one that there is not."""
    import torch

    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return [key for key in _KEYS if torch._C._dispatch_has_kernel(operator) and has(operator, key)]


def _key(platform: Any) -> str:
    """The dispatch key of the platform's device."""
    import torch

    try:
        return str(torch._C._dispatch_key_for_device(str(platform.device_type)))
    except RuntimeError:  # a name that torch does not know
        return ""
