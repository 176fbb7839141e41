"""Watching a rank's collective calls: each is said on the board before torch.distributed is called.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .board import Board

if TYPE_CHECKING:
    from .rank import Rank

POINT_TO_POINT = "point to point"


@dataclass(frozen=True)
class _Kind:
    """A collective: the parameter that holds what is sent, what of it all ranks must have alike, and further
    parameters that they must give alike.
    """

    payload: str = ""
    alike: str = "shape"
    also: tuple[str, ...] = ()


_KINDS: Mapping[str, _Kind] = {
    "all_reduce": _Kind("tensor", "shape", ("op",)),
    "reduce": _Kind("tensor", "shape", ("op", "dst", "group_dst")),
    "broadcast": _Kind("tensor", "numel", ("src", "group_src")),
    "all_gather": _Kind("tensor", "dtype"),
    "all_gather_into_tensor": _Kind("input_tensor", "numel"),
    "all_gather_single": _Kind("input_tensor", "numel"),  # the same in torch 2.13, which calls it there
    "reduce_scatter": _Kind("output", "dtype", ("op",)),
    "reduce_scatter_tensor": _Kind("input", "numel", ("op",)),
    "reduce_scatter_single": _Kind("input", "numel", ("op",)),
    "gather": _Kind("tensor", "numel", ("dst", "group_dst")),
    "scatter": _Kind("tensor", "numel", ("src", "group_src")),
    "all_to_all": _Kind("output_tensor_list", "dtype"),
    "all_to_all_single": _Kind("output", "dtype"),
    "barrier": _Kind(),
}
_DESTROY = "destroy_process_group"
_PAIRWISE = ("send", "recv", "isend", "irecv")


def watch(board: Board, rank: Rank, *, alone: bool = False) -> None:
    """From now on, what this thread calls of torch.distributed is said on the board; for the process's whole life.

    What other threads call, on groups of their own, has no order beside it, and is nobody's to meet. ``alone``: its
    peers say nothing on this board, and are not waited for.
    """
    import torch.distributed as public
    from torch.distributed import distributed_c10d as home

    for name in (*_KINDS, *_PAIRWISE):
        original = getattr(home, name, None)
        if original is None or (name in _KINDS and "group" not in inspect.signature(original).parameters):
            continue  # not in this torch, or somebody's own, which does not say which group it is for
        watched = (
            _pairwise(original, rank) if name in _PAIRWISE else _watched(original, _KINDS[name], board, rank, alone)
        )
        for module in (home, public):
            if getattr(module, name, None) is original:
                setattr(module, name, watched)
    destroying = _destroying(getattr(home, _DESTROY), rank)
    for module in (home, public):
        setattr(module, _DESTROY, destroying)


def _watched(original: Callable[..., Any], kind: _Kind, board: Board, rank: Rank, alone: bool) -> Callable[..., Any]:
    signature, thread = inspect.signature(original), threading.get_ident()

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return original(*args, **kwargs)
        given = _given(signature, args, kwargs)
        group = _group_of(given.get("group")) if given is not None else None
        if rank.calling or given is None or group is None or rank.number not in group[1]:
            # A part of a call that is said already, or torch itself says what is wrong with it, or it is not ours.
            return original(*args, **kwargs)
        name, members = group
        rank.counts[name] = rank.counts.get(name, 0) + 1
        text, agree = _told(original.__name__, kind, given)
        known = f"{rank.generation}:{name}"
        met = () if alone else members
        rank.calling = True
        try:
            with board.entering(known, met, f"{text} on group {name}", agree, rank.seconds):
                return original(*args, **kwargs)
        finally:
            rank.calling = False

    return call


def _pairwise(original: Callable[..., Any], rank: Rank) -> Callable[..., Any]:
    """Sends and receives need no third rank, and may rightly come in any order: they are only counted."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        rank.counts[POINT_TO_POINT] = rank.counts.get(POINT_TO_POINT, 0) + 1
        return original(*args, **kwargs)

    return call


def _destroying(original: Callable[..., Any], rank: Rank) -> Callable[..., Any]:
    """Once all groups are destroyed, torch gives their names again: those are other groups."""
    from torch.distributed import distributed_c10d as home

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        if not home.is_initialized():
            rank.generation += 1

    return call


def _given(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    return bound.arguments


def _group_of(group: Any) -> tuple[str, list[int]] | None:
    """The group's name and its members' ranks; None where this process is in no such group."""
    from torch.distributed import distributed_c10d as home

    try:
        found = group if group is not None else home._get_default_group()
        return str(found.group_name), list(home.get_process_group_ranks(found))
    except (ValueError, RuntimeError, AttributeError, KeyError):
        return None


def _told(name: str, kind: _Kind, given: Mapping[str, Any]) -> tuple[str, str]:
    """The call in words, and what of it must be the same on every rank."""
    tensor: Any = given.get(kind.payload)
    if isinstance(tensor, (list, tuple)) and tensor:
        tensor = tensor[0]
    also = [f"{parameter}={_plain(given[parameter])}" for parameter in kind.also if given.get(parameter) is not None]
    if not hasattr(tensor, "dtype"):
        words = " ".join([name, *also])
        return words, words
    dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    alike = {"shape": str(shape), "numel": str(tensor.numel()), "dtype": ""}[kind.alike]
    return " ".join([name, dtype, str(shape), *also]), " ".join([name, dtype, alike, *also])


def _plain(value: Any) -> str:
    """An operation or a rank as text: torch's reduction operations know their names only by attribute."""
    return str(getattr(value, "op", value)).rpartition(".")[2]
