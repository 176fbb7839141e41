"""What collectives give: the same calls, made by both ranks of a group on gloo.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .plain import described, read
from .witness import Witness, witness

RANKS = 2
GROUPS = ("tp", "world")


@dataclass(frozen=True)
class Tensor:
    """A tensor of small whole numbers, other ones on every rank.

    ``layout``: ``plain``, ``transposed`` (of two dimensions or more), ``strided``. ``sizes``: each rank's own first
    dimension, where they differ.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    fill: int = 1
    layout: str = "plain"
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Call:
    """A method of a group's coordinator, or a function of ``communication_op`` (``group`` is ``op``), or an exchange.

    ``tensors`` come first, or within a list where ``listed``; then ``arguments`` by their names.
    """

    group: str
    name: str
    tensors: tuple[Tensor, ...] = ()
    arguments: dict[str, Any] | None = None
    listed: bool = False


@dataclass(frozen=True)
class World:
    """Calls that both ranks make, one after another."""

    calls: tuple[Call, ...] = ()


def enact(data: Any) -> Any:
    """Make the calls as the rank that this process is, and tell of each what it gave and what it did to its tensors."""
    rank = _state().get_world_group().rank_in_group
    with witness() as seen:
        return [_told(call, rank, seen) for call in read(World, data).calls]


def _told(call: Call, rank: int, seen: Witness) -> Any:
    tensors = [_made(tensor, rank) for tensor in call.tensors]
    told = seen.step(f"{call.group}.{call.name}", functools.partial(_called, call, rank, tensors))
    # Log records and warnings tell of engines and of the accessors' age, which other subjects hold.
    return {**{name: told[name] for name in ("step", "value", "error") if name in told}, "after": _values(tensors)}


def _called(call: Call, rank: int, tensors: list[Any]) -> Any:
    group = _state().get_world_group() if call.group == "world" else _state().get_tp_group()
    given = call.arguments or {}
    if call.name in EXCHANGES:
        return _values(EXCHANGES[call.name](group, rank, tensors, **given))
    home = importlib.import_module("sglang.srt.distributed.communication_op") if call.group == "op" else group
    result = getattr(home, call.name)(*([tensors] if call.listed else tensors), **given)
    return [_values(result), any(result is tensor for tensor in tensors)]


def _state() -> Any:
    return importlib.import_module("sglang.srt.distributed.parallel_state")


def _made(tensor: Tensor, rank: int) -> Any:
    import torch

    shape = (tensor.sizes[rank], *tensor.shape[1:]) if tensor.sizes else tensor.shape
    count = int(torch.Size(shape).numel())
    wide = torch.arange(2 * count) if tensor.layout == "strided" else torch.arange(count)
    values = (wide % 5 + tensor.fill + 3 * rank).to(getattr(torch, tensor.dtype))
    if tensor.layout == "strided":
        return values.reshape(*shape[:-1], 2 * shape[-1])[..., ::2] if shape else values[0]
    if tensor.layout == "transposed" and len(shape) > 1:
        return values.reshape(shape[1], shape[0], *shape[2:]).transpose(0, 1)
    return values.reshape(shape)


def _values(value: Any) -> Any:
    """Tensors with all that is in them; other values as they are described."""
    import torch

    if isinstance(value, torch.Tensor):
        return {
            "shape": list(value.shape),
            "dtype": str(value.dtype),
            "device": str(value.device),
            "is": repr(value.tolist()),
        }
    if isinstance(value, (list, tuple)):
        return [_values(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _values(each) for name, each in value.items()}
    return described(value)


def _send(group: Any, rank: int, tensors: list[Any]) -> Any:
    if rank == 0:
        return group.send(tensors[0])
    return group.recv(tensors[0].shape, tensors[0].dtype)


def _send_object(group: Any, rank: int, tensors: list[Any], given: Any) -> Any:
    if rank == 0:
        return group.send_object(given, dst=1)
    return group.recv_object(src=0)


def _send_dictionary(group: Any, rank: int, tensors: list[Any], **values: Any) -> Any:
    if rank == 0:
        named = {f"tensor{number}": tensor for number, tensor in enumerate(tensors)}
        return group.send_tensor_dict({**named, **values})
    return group.recv_tensor_dict()


def _broadcast_dictionary(group: Any, rank: int, tensors: list[Any], src: int, **values: Any) -> Any:
    named = {f"tensor{number}": tensor for number, tensor in enumerate(tensors)}
    return group.broadcast_tensor_dict({**named, **values} if rank == src else None, src=src)


EXCHANGES: dict[str, Callable[..., Any]] = {
    "(send)": _send,
    "(send object)": _send_object,
    "(send dictionary)": _send_dictionary,
    "(broadcast dictionary)": _broadcast_dictionary,
}
"""What the two ranks do differently: rank 0 sends what rank 1 receives."""
