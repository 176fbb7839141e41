"""Collectives of a group that move tensors: gathering, even and uneven, broadcasting, exchanging."""

from __future__ import annotations

import itertools
import logging

import torch
import torch.distributed

from .._contract import since
from .._released import Lifetime, Parameters, released
from . import parallel_state as state
from ._group import Group, place
from ._reductions import on_cpu_platform

logger = logging.getLogger("sglang.srt.distributed.parallel_state")


class Gathers(Group):
    """The collectives of a GroupCoordinator that move tensors."""

    def all_gather_into_tensor(self, output: torch.Tensor, input: torch.Tensor) -> None:
        """Write every rank's input into ``output``, one after the other."""
        if on_cpu_platform():
            self._all_gather_into_tensor(output, input)
        else:
            state.reg_all_gather_into_tensor(output, input, group_name=self.unique_name)

    def _all_gather_into_tensor(self, output: torch.Tensor, input: torch.Tensor) -> None:
        engine = self.available_pynccl
        if engine is not None and (not engine.disabled or self.is_symmetric_memory_enabled()):
            with engine.change_state(enable=True):
                engine.all_gather(output, input)
        else:
            torch.distributed.all_gather_into_tensor(output, input, group=self.device_group)

    def cp_all_gather_into_tensor_async(self, output: torch.Tensor, input: torch.Tensor, stream: object) -> None:
        """Write every rank's input into ``output``; on ``stream`` where PyNCCL is enabled."""
        engine = self.enabled_pynccl
        if engine is None:
            self.all_gather_into_tensor(output, input)
        else:
            engine.cp_all_gather_into_tensor(output, input, stream=stream)

    def all_gather(
        self, input_: torch.Tensor, dim: int = -1, output_tensor_list: list[torch.Tensor] | None = None
    ) -> torch.Tensor | None:
        """Every rank's tensor, joined along a dimension into a new tensor; the input itself in a group of one.

        With ``output_tensor_list`` they are written there, one each, and None is returned. Raises AssertionError where
        there is no such dimension.
        """
        if output_tensor_list is not None:
            self._all_gather_into_list(output_tensor_list, input_)
            return None
        if self.world_size == 1:
            return input_
        dim = place(dim, input_.shape)
        shape = tuple(input_.shape)
        gathered = input_.new_empty((shape[0] * self.world_size, *shape[1:]))
        if input_.is_cpu:
            torch.distributed.all_gather_into_tensor(gathered, input_, group=self.device_group)
        else:
            self.all_gather_into_tensor(gathered, input_)
        apart = gathered.reshape(self.world_size, *shape).movedim(0, dim)
        return apart.reshape(*shape[:dim], self.world_size * shape[dim], *shape[dim + 1 :])

    def _all_gather_into_list(self, outputs: list[torch.Tensor], input_: torch.Tensor) -> None:
        if self.world_size == 1:
            logger.warning("an all-gather over one rank only copies: leave it out")
            outputs[0].copy_(input_)
        else:
            torch.distributed.all_gather(outputs, input_, group=self.device_group)

    @released(Parameters({"output": Lifetime("0.5.15")}))
    def all_gatherv(
        self,
        input_: torch.Tensor | list[torch.Tensor],
        sizes: list[int] | None = None,
        output: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """For each input a tensor of every rank's rows, of which rank r has ``sizes[r]``, or all equally many.

        A list also for a single input, as in SGLang; ``output`` is where a single one is written. Raises AssertionError
        for sizes or an output that do not fit, ValueError for an output with several inputs. Works without PyNCCL,
        where SGLang does not: by one broadcast for each rank that has rows.
        """
        inputs = input_ if isinstance(input_, list) else [input_]
        if isinstance(input_, list) and output is not None:
            raise ValueError("all_gatherv can write into an output only with a single tensor as input")
        gathered = [self._room_for(each, sizes, output) for each in inputs]
        engine = self.available_pynccl
        if engine is None:
            for each, room in zip(inputs, gathered, strict=True):
                self._gather_rows(room, each, sizes or [each.shape[0]] * self.world_size)
            return gathered
        even = sizes is None or len(set(sizes)) == 1
        with engine.change_state(enable=True):
            assert not engine.disabled, "PyNCCL is disabled and cannot be enabled"
            engine.group_start()
            try:
                for each, room in zip(inputs, gathered, strict=True):
                    engine.all_gather(room, each, sizes=None if even else sizes)
            finally:
                engine.group_end()
        return gathered

    def _room_for(self, input_: torch.Tensor, sizes: list[int] | None, output: torch.Tensor | None) -> torch.Tensor:
        if sizes is not None:
            assert len(sizes) == self.world_size, f"there are {len(sizes)} sizes for {self.world_size} ranks"
            mine = sizes[self.rank_in_group]
            assert input_.shape[0] == mine, f"this rank has {input_.shape[0]} rows, and its size says {mine}"
        rows = input_.shape[0] * self.world_size if sizes is None else sum(sizes)
        shape = (rows, *input_.shape[1:])
        if output is None:
            return input_.new_empty(shape)
        assert tuple(output.shape) == shape, f"the output has shape {tuple(output.shape)}, and needs {shape}"
        return output

    def _gather_rows(self, output: torch.Tensor, input_: torch.Tensor, sizes: list[int]) -> None:
        """Give each rank's rows to all: what a rank receives lies in tensors of their own, and is copied from there."""
        for rank, (first, rows) in enumerate(zip(itertools.accumulate(sizes, initial=0), sizes, strict=False)):
            part = output.narrow(0, first, rows)
            if part.numel() == 0:
                continue
            moved = input_.contiguous() if rank == self.rank_in_group else part.new_empty(part.shape)
            if self.world_size > 1:
                torch.distributed.broadcast(moved, src=self.ranks[rank], group=self.device_group)
            part.copy_(moved)

    def gather(self, input_: torch.Tensor, dst: int = 0, dim: int = -1) -> torch.Tensor | None:
        """Every rank's tensor, joined along a dimension, on the rank at place ``dst`` of the group; None on the others.

        The input itself in a group of one. Raises AssertionError where there is no such dimension.
        """
        if self.world_size == 1:
            return input_
        dim = place(dim, input_.shape)
        mine = self.rank_in_group == dst
        parts = [torch.empty_like(input_) for _ in self.ranks] if mine else None
        torch.distributed.gather(input_, parts, dst=self.ranks[dst], group=self.device_group)
        return None if parts is None else torch.cat(parts, dim=dim)

    def broadcast(self, input_: torch.Tensor, src: int = 0) -> torch.Tensor:
        """Write the tensor of the rank at place ``src`` into every rank's; raises AssertionError for no such place."""
        assert src < self.world_size, f"Invalid src rank ({src})"
        if self.world_size == 1:
            return input_
        engine = self.enabled_pynccl if since("0.5.21") else None  # in 0.5.20 on ROCm alone, and nowhere before
        if engine is not None:
            engine.broadcast(input_, src=src)
        else:
            torch.distributed.broadcast(input_, src=self.ranks[src], group=self.device_group)
        return input_

    def all_to_all_single(self, output: torch.Tensor, input: torch.Tensor) -> None:
        """Give each rank its part of the input, and write what they have for this one into ``output``, by rank."""
        if self.world_size == 1:
            output.copy_(input)
        else:
            state.reg_all_to_all_single(output, input, group_name=self.unique_name)

    def _all_to_all_single(self, output: torch.Tensor, input: torch.Tensor) -> None:
        engine = self.enabled_pynccl if since("0.5.17") else None  # before, by torch.distributed alone
        if engine is not None:
            engine.all_to_all_single(output, input)
        else:
            torch.distributed.all_to_all_single(output, input, group=self.device_group)
