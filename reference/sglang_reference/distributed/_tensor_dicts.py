"""Tensors and dictionaries of tensors from rank to rank: what pipeline stages pass on.

Ranks are places in the group.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed

from . import parallel_state as state
from ._group import Group
from ._objects import Objects, P2PWork

Values = dict[str, Any]


class TensorMetadata(NamedTuple):
    """What must be known of a tensor to make room for it; ``device`` without an index, as every rank has its own."""

    device: str
    dtype: torch.dtype
    size: torch.Size


def _split_tensor_dict(tensor_dict: Mapping[str, Any]) -> tuple[list[tuple[str, Any]], list[torch.Tensor]]:
    """The items with metadata in the place of tensors, and the tensors."""
    items, tensors = [], []
    for key, value in tensor_dict.items():
        if isinstance(value, torch.Tensor):
            items.append((key, TensorMetadata(value.device.type, value.dtype, value.size())))
            tensors.append(value)
        else:
            items.append((key, value))
    return items, tensors


class TensorDicts(Objects):
    """The part of a GroupCoordinator that carries tensors from rank to rank, and dictionaries of them."""

    def send(self, tensor: torch.Tensor, dst: int | None = None) -> None:
        """Send a tensor to the rank at place ``dst``, the next one where it is not given."""
        dst = self._after(1) if dst is None else dst
        engine = self.enabled_pynccl
        if engine is not None:
            engine.send(tensor, dst)
        else:
            torch.distributed.send(tensor, self.ranks[dst], self.device_group)

    def recv(self, size: torch.Size, dtype: torch.dtype, src: int | None = None) -> torch.Tensor:
        """A new tensor from the rank at place ``src``, the one before where it is not given."""
        src = self._after(-1) if src is None else src
        tensor = torch.empty(size, dtype=dtype, device=self.device)
        engine = self.enabled_pynccl
        if engine is not None:
            engine.recv(tensor, src)
        else:
            torch.distributed.recv(tensor, self.ranks[src], self.device_group)
        return tensor

    def broadcast_tensor_dict(
        self, tensor_dict: Values | None = None, src: int = 0, group: Any = None, metadata_group: Any = None
    ) -> Values | None:
        """The dictionary of the rank at place ``src``, on every rank; empty tensors are not sent but made.

        ``group`` and ``metadata_group`` are not used, as in SGLang. Raises AssertionError for no such place, and for
        anything but a dictionary.
        """
        if not torch.distributed.is_initialized() or self.world_size == 1:
            return tensor_dict
        assert src < self.world_size, f"Invalid src rank ({src})"
        if self.rank_in_group == src:
            assert isinstance(tensor_dict, dict), f"Expecting a dictionary, got {type(tensor_dict)}"
            items, tensors = state._split_tensor_dict(tensor_dict)
            self.broadcast_object(items, src=src)
            result = tensor_dict
        else:
            result = {key: _room_for(value) for key, value in self.broadcast_object(None, src=src)}
            tensors = [value for value in result.values() if isinstance(value, torch.Tensor)]
        works = [
            torch.distributed.broadcast(tensor, src=self.ranks[src], group=self._group_for(tensor), async_op=True)
            for tensor in tensors
            if tensor.numel() > 0
        ]
        for work in works:
            if work is not None:
                work.wait()
        return result

    def send_tensor_dict(
        self,
        tensor_dict: Values,
        dst: int | None = None,
        all_gather_group: Group | None = None,
        async_send: bool = False,
    ) -> list[P2PWork] | Values:
        """Send a dictionary to the rank at place ``dst``, the next one where it is not given.

        With ``all_gather_group`` each of its ranks sends a part of every tensor that can be parted, and the receivers
        put them together. With ``async_send``, what must be waited for is returned; in a group of one, the dictionary.
        """
        if self.world_size == 1:
            return tensor_dict
        dst = self._after(1) if dst is None else dst
        assert dst < self.world_size, f"Invalid dst rank ({dst})"
        assert isinstance(tensor_dict, dict), f"Expecting a dictionary, got {type(tensor_dict)}"
        items, tensors = state._split_tensor_dict(tensor_dict)
        works = self.send_object(items, dst=dst, async_send=async_send)
        send: Callable[..., Any] = torch.distributed.isend if async_send else torch.distributed.send
        for tensor in (_part_of(tensor, all_gather_group) for tensor in tensors if tensor.numel() > 0):
            work = send(tensor, self.ranks[dst], group=self._group_for(tensor))
            if async_send:
                works.append(P2PWork(work, tensor))
        return works

    def recv_tensor_dict(self, src: int | None = None, all_gather_group: Any = None) -> Values | None:
        """The dictionary that the rank at place ``src`` sends, the one before where it is not given.

        None in a group of one. ``all_gather_group`` as in :meth:`send_tensor_dict`.
        """
        if not torch.distributed.is_initialized() or self.world_size == 1:
            return None
        src = self._after(-1) if src is None else src
        assert src < self.world_size, f"Invalid src rank ({src})"
        result: Values = {}
        for key, value in self.recv_object(src=src):
            room = _room_for(value)
            if isinstance(room, torch.Tensor) and room.numel() > 0:
                part = _part_of(room, all_gather_group)
                # irecv, as it serves what was sent either way.
                work = torch.distributed.irecv(part, src=self.ranks[src], group=self._group_for(part))
                if work is not None:
                    work.wait()
                room = _put_together(part, room, all_gather_group)
            result[key] = room
        return result

    def send_recv_tensor_dict(
        self,
        send_tensor_dict: Values,
        send_dst: int | None = None,
        recv_src: int | None = None,
        send_all_gather_group: Any = None,
        recv_all_gather_group: Any = None,
    ) -> Values | None:
        """Send one dictionary and receive another at once, so that no rank waits for one that waits for it.

        None in a group of one. Raises AssertionError for a place that is not in the group.
        """
        if not torch.distributed.is_initialized() or self.world_size == 1:
            return None
        dst = self._after(1) if send_dst is None else send_dst
        src = self._after(-1) if recv_src is None else recv_src
        assert dst < self.world_size, f"Invalid send_dst rank ({dst})"
        assert src < self.world_size, f"Invalid recv_src rank ({src})"
        items, tensors = state._split_tensor_dict(send_tensor_dict)
        rooms = [(key, _room_for(value)) for key, value in self._swap_objects(items, dst, src)]
        incoming = {
            key: _part_of(room, recv_all_gather_group)
            for key, room in rooms
            if isinstance(room, torch.Tensor) and room.numel() > 0
        }
        outgoing = [_part_of(tensor, send_all_gather_group) for tensor in tensors if tensor.numel() > 0]
        self._swap(outgoing, dst, list(incoming.values()), src)
        return {
            key: _put_together(incoming[key], room, recv_all_gather_group) if key in incoming else room
            for key, room in rooms
        }

    def _swap_objects(self, obj: Any, dst: int, src: int) -> Any:
        parcel = torch.frombuffer(bytearray(pickle.dumps(obj)), dtype=torch.uint8)
        size = torch.empty(1, dtype=torch.long)
        self._swap([torch.tensor([parcel.numel()], dtype=torch.long)], dst, [size], src)
        room = torch.empty(int(size), dtype=torch.uint8)
        self._swap([parcel], dst, [room], src)
        return pickle.loads(room.numpy().tobytes())

    def _swap(self, outgoing: list[torch.Tensor], dst: int, incoming: list[torch.Tensor], src: int) -> None:
        p2p, isend, irecv = torch.distributed.P2POp, torch.distributed.isend, torch.distributed.irecv
        calls = [p2p(irecv, tensor, self.ranks[src], group=self._group_for(tensor)) for tensor in incoming]
        calls += [p2p(isend, tensor, self.ranks[dst], group=self._group_for(tensor)) for tensor in outgoing]
        for work in torch.distributed.batch_isend_irecv(calls) if calls else []:
            work.wait()

    def _group_for(self, tensor: torch.Tensor) -> Any:
        """Host tensors go over the host's group."""
        return self.cpu_group if tensor.is_cpu else self.device_group


def _room_for(value: Any) -> Any:
    """An empty tensor for metadata; any other value is itself."""
    if not isinstance(value, TensorMetadata):
        return value
    return torch.empty(value.size, dtype=value.dtype, device=value.device)


def _is_parted(tensor: torch.Tensor, group: Any) -> bool:
    return group is not None and tensor.numel() % group.world_size == 0


def _part_of(tensor: torch.Tensor, group: Any) -> torch.Tensor:
    """The rank's part of a tensor that a group parts among its ranks; else the tensor."""
    return tensor.reshape(group.world_size, -1)[group.rank_in_group] if _is_parted(tensor, group) else tensor


def _put_together(part: torch.Tensor, whole: torch.Tensor, group: Any) -> torch.Tensor:
    """A tensor of which a group's ranks have received a part each, in the shape of ``whole``; else the part."""
    if not _is_parted(whole, group):
        return part
    joined: torch.Tensor = group.all_gather(part, dim=0)
    return joined.reshape(whole.shape)
