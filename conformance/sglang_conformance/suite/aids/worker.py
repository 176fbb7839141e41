"""The platform as SGLang's worker meets it: the device started, its devices counted, tensors held on them.

Checks that need tensors go through torch's own device module rather than through the platform's members, so that a
wrong member is blamed once, by the check that asks it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from .. import expect

MIB = 1 << 20


class _Same:
    """Stands for a platform as a key: by identity, since a platform need not be hashable."""

    def __init__(self, platform: Any) -> None:
        self.platform = platform

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.platform is other.platform

    def __hash__(self) -> int:
        return id(self.platform)


def start(platform: Any) -> None:
    """Start the device as SGLang's worker does: once a process, where out-of-tree (0.5.23, model_runner.py)."""
    _start(_Same(platform))


def module_of(platform: Any) -> Any:
    """Give torch's module of the platform's device type, as ``torch.cuda``; a violation where there is none."""
    import torch

    call = f"torch.get_device_module({platform.device_type!r})"
    cause = "init_backend() does not register the device type with torch"
    return expect.attempt(call, lambda: torch.get_device_module(platform.device_type), cause=cause).value


def devices(platform: Any) -> tuple[Any, ...]:
    """Start the device, and name every one that torch sees: ``cpu`` without an index, others with it."""
    import torch

    start(platform)
    kind = platform.device_type
    if kind == "cpu":
        return (torch.device("cpu"),)
    count = expect.attempt(f"torch.{kind}.device_count()", module_of(platform).device_count)
    expect.instance(count, int)
    expect.that(count.value > 0, expected="at least one device", seen=str(count.value), answer=count)
    return tuple(torch.device(kind, index) for index in range(count.value))


def index_of(device: Any) -> int:
    """The number that SGLang knows a device by: 0 for one without an index."""
    return 0 if device.index is None else int(device.index)


def make_current(platform: Any, device: Any) -> None:
    """Choose the device as SGLang's worker does: through torch's module (0.5.23, model_runner.py)."""
    if device.type != "cpu":
        expect.attempt(f"torch.{device.type}.set_device({device.index})", lambda: _set(platform, device))


def hold(device: Any, size: int) -> Any:
    """A tensor of ``size`` bytes on the device, every byte of it written."""
    import torch

    def fill() -> Any:
        held = torch.full((size,), 7, dtype=torch.uint8, device=device)
        if device.type != "cpu":
            torch.get_device_module(device).synchronize()
        return held

    return expect.attempt(f"torch.full(({size},), 7, dtype=torch.uint8, device={str(device)!r})", fill).value


def values(tensor: Any) -> list[Any]:
    """What a tensor on any device holds, as Python numbers."""
    result: list[Any] = expect.attempt(f"tensor on {tensor.device}: .cpu()", lambda: tensor.cpu().tolist()).value
    return result


def optional(platform: Any, member: str, *args: Any) -> expect.Answer:
    """Ask a member that serving does without: one that raises NotImplementedError, as the default does, is declined."""
    try:
        return expect.Answer(
            getattr(platform, member)(*args), expect.spell(member, args), expect.place_of(platform, member)
        )
    except NotImplementedError:
        raise expect.Declined(f"{member} raises NotImplementedError, as SGLang's own default does") from None
    except Exception:
        return expect.ask(platform, member, *args)  # raises again, and then names the vendor's line


def capabilities(platform: Any) -> Iterator[expect.Answer]:
    """What get_device_capability says of each device, less the Nones. Declined where it is not offered."""
    answers = [optional(platform, "get_device_capability", index_of(device)) for device in devices(platform)]
    return (answer for answer in answers if answer.value is not None)


@lru_cache(maxsize=1)
def _start(same: _Same) -> None:
    if same.platform.is_out_of_tree():
        expect.ask(same.platform, "init_backend")


def _set(platform: Any, device: Any) -> None:
    module_of(platform).set_device(device.index)
