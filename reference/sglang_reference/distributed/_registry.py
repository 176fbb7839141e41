"""The names of the groups of this process, and the functions that find a group by its name.

SGLang passes a group's name, not the group, to what the compiler must not look into; a hook on one of these functions
meets every such call. Names are given in order, so they agree between ranks, and are not given twice.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .parallel_state import GroupCoordinator

_group_name_counter: dict[str, int] = {}
_groups: dict[str, weakref.ref[GroupCoordinator]] = {}


def _get_unique_name(name: str) -> str:
    number = _group_name_counter.get(name, 0)
    _group_name_counter[name] = number + 1
    return f"{name}:{number}"


def _register_group(group: GroupCoordinator) -> None:
    """Make the group known by its name, for as long as it lives."""
    name = group.unique_name
    _groups[name] = weakref.ref(group, lambda _: forget(name))


def forget(name: str) -> None:
    """A group is destroyed: its name stands for nothing any more."""
    _groups.pop(name, None)


def _named(name: str) -> GroupCoordinator:
    """The group of that name. Raises ValueError where it is destroyed, AssertionError where there was none."""
    reference = _groups.get(name)
    group = reference() if reference is not None else None
    if group is None:
        kind, _, number = name.rpartition(":")
        given = number.isdigit() and int(number) < _group_name_counter.get(kind, 0)
        assert given, f"there is no group {name!r}; the groups are {', '.join(sorted(_groups)) or 'none'}"
        raise ValueError(f"the group {name!r} is destroyed; ask for the present one")
    return group


def inplace_all_reduce(tensor: torch.Tensor, group_name: str) -> None:
    """Reduce a tensor where it is."""
    _named(group_name)._all_reduce_in_place(tensor)


def outplace_all_reduce(tensor: torch.Tensor, group_name: str, outplace_all_reduce_method: str) -> torch.Tensor:
    """Reduce a tensor into a new one, by the engine that is named."""
    return _named(group_name)._all_reduce_out_place(tensor, outplace_all_reduce_method)


def flashinfer_allreduce(tensor: torch.Tensor, group_name: str) -> torch.Tensor:
    """Reduce a tensor into a new one, by FlashInfer."""
    return _named(group_name)._flashinfer_allreduce(tensor)


def reg_all_gather_into_tensor(output: torch.Tensor, input: torch.Tensor, group_name: str) -> None:
    """Gather every rank's input into the output."""
    _named(group_name)._all_gather_into_tensor(output, input)


def reg_reduce_scatter_tensor(output: torch.Tensor, input: torch.Tensor, group_name: str) -> None:
    """Reduce the inputs, each rank keeping its own part."""
    _named(group_name)._reduce_scatter_tensor(output, input)


def reg_all_to_all_single(output: torch.Tensor, input: torch.Tensor, group_name: str) -> None:
    """Exchange the parts of the input with every rank."""
    _named(group_name)._all_to_all_single(output, input)
