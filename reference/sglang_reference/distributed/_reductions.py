"""Reductions over a group: all-reduce by whichever engine takes the tensor, and reduce-scatter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed

from sglang_reference import _all_reduce as choice
from sglang_reference._errors import not_covered

from .. import platforms
from .._contract import TABLE, since
from .._released import Lifetime, Parameters, released
from . import parallel_state as state
from ._group import Group, place
from ._switches import switches

_STEPS = choice.steps_of(TABLE["release"])

# Each engine's attribute, and the method that says whether it accepts a tensor; none, where it takes all.
_ENGINES: tuple[tuple[str, str, str], ...] = (
    ("hpu", "hpu_communicator", ""),
    ("xpu", "xpu_communicator", ""),
    ("npu", "npu_communicator", ""),
    ("ca", "ca_comm", "should_custom_ar"),
    ("pcie_ipc", "pcie_ipc_comm", "should_pcie_ipc_ar"),
    ("qr", "qr_comm", "should_quick_allreduce"),
    ("pymscclpp", "pymscclpp_comm", "should_mscclpp_allreduce"),
    ("torch_symm_mem", "torch_symm_mem_comm", "should_torch_symm_mem_allreduce"),
    (choice.PYNCCL, "pynccl_comm", ""),
)
# The attribute and the method of those that reduce into a new tensor.
_OUT_OF_PLACE = {
    "ca": ("ca_comm", "custom_all_reduce"),
    "pcie_ipc": ("pcie_ipc_comm", "pcie_ipc_all_reduce"),
    "qr": ("qr_comm", "quick_all_reduce"),
    "pymscclpp": ("pymscclpp_comm", "all_reduce"),
    "torch_symm_mem": ("torch_symm_mem_comm", "all_reduce"),
}


Inside = Callable[[Any, torch.Tensor], choice.Inside]


class Reductions(Group):
    """The reductions of a GroupCoordinator."""

    def explain_all_reduce(self, tensor: torch.Tensor) -> choice.Decision:
        """Which engine would reduce this tensor now, why, and who was passed over. Of the reference alone.

        An engine that offers them tells more: ``verdict`` (of :mod:`sglang_reference._custom_all_reduce.generations`:
        which generation the group has, and why no better one), ``algorithm(tensor)``, and ``explain(tensor)``, why it
        does not take the tensor.
        """
        return choice.decide(self._facts(tensor, _inside), _STEPS)

    def _decide(self, tensor: torch.Tensor) -> choice.Decision:
        """The same, without what only a person asks for."""
        return choice.decide(self._facts(tensor, lambda engine, tensor: choice.Inside()), _STEPS)

    def _facts(self, tensor: torch.Tensor, inside: Inside) -> choice.Facts:
        asked = self.world_size > 1 and not tensor.is_cpu
        return choice.Facts(
            world_size=self.world_size,
            bytes=tensor.numel() * tensor.element_size(),
            dtype=str(tensor.dtype).removeprefix("torch."),
            contiguous=tensor.is_contiguous(),
            on_host=tensor.is_cpu,
            engines=tuple(self._engines(tensor, inside)) if asked else (),
            capture=self._captures > 0,
            symmetric_memory=self.is_symmetric_memory_enabled(),
        )

    def _engines(self, tensor: torch.Tensor, inside: Inside) -> list[choice.Engine]:
        found = []
        for name, attribute, question in _ENGINES:
            engine = getattr(self, attribute, None)
            if engine is None:
                continue
            disabled = bool(getattr(engine, "disabled", False))
            accepts = disabled or not question or bool(getattr(engine, question)(tensor))
            available = bool(getattr(engine, "available", True))
            found.append(choice.Engine(name, available, disabled, accepts, inside(engine, tensor)))
        return found

    def all_reduce(self, input_: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks: in the input itself or in a new tensor, as the engine has it; use what is returned.

        :meth:`explain_all_reduce` says which engine it is.
        """
        decision = self._decide(input_)
        if decision.engine == choice.NONE:
            return input_
        if decision.via == choice.IN_PLACE:
            state.inplace_all_reduce(input_, group_name=self.unique_name)
            return input_
        if decision.via == choice.OUT_OF_PLACE:
            return state.outplace_all_reduce(
                input_, group_name=self.unique_name, outplace_all_reduce_method=decision.engine
            )
        if decision.engine == choice.TORCH:
            torch.distributed.all_reduce(input_, group=self.device_group)
            return input_
        if decision.engine == choice.PYNCCL:
            with self.pynccl_comm.change_state(enable=True):
                self.pynccl_comm.all_reduce(input_)
            return input_
        reduced: torch.Tensor = getattr(self, f"{decision.engine}_communicator").all_reduce(input_)
        return reduced

    def quant_all_reduce(self, input_: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in the input: only SGLang's NPU backend quantises on the way."""
        if self.world_size > 1:
            state.inplace_all_reduce(input_, group_name=self.unique_name)
        return input_

    def _all_reduce_in_place(self, input_: torch.Tensor) -> None:
        engine = self.enabled_pynccl
        if engine is not None:
            engine.all_reduce(input_)
        else:
            torch.distributed.all_reduce(input_, group=self.device_group)

    def _all_reduce_out_place(self, input_: torch.Tensor, outplace_all_reduce_method: str) -> torch.Tensor:
        """Reduce into a new tensor by the engine that is named; ``auto`` chooses, and falls back to a copy."""
        if outplace_all_reduce_method == "auto":
            decision = self._decide(input_)
            if decision.via != choice.OUT_OF_PLACE:
                copy = input_.clone()
                self._all_reduce_in_place(copy)
                return copy
            outplace_all_reduce_method = decision.engine
        if outplace_all_reduce_method == choice.PYNCCL:
            with self.pynccl_comm.change_state(enable=True):
                out = self.pynccl_comm.outplace_all_reduce(input_)
        else:
            attribute, method = _OUT_OF_PLACE[outplace_all_reduce_method]
            engine = getattr(self, attribute)
            assert not engine.disabled, f"the engine {outplace_all_reduce_method} is disabled"
            out = getattr(engine, method)(input_)
        assert out is not None, f"the engine {outplace_all_reduce_method} returned nothing for {tuple(input_.shape)}"
        reduced: torch.Tensor = out
        return reduced

    def _flashinfer_allreduce(self, input_: torch.Tensor) -> torch.Tensor:
        raise not_covered("an all-reduce by FlashInfer")

    def fused_allreduce_rmsnorm(
        self, input_: torch.Tensor, residual_inp_: torch.Tensor, weight_: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Sum and normalise at once, where the custom engine can; else None, and the caller takes both steps."""
        engine = self.ca_comm
        if engine is None or getattr(engine, "disabled", True) or not hasattr(engine, "fused_allreduce_rmsnorm"):
            return None
        try:
            result: tuple[torch.Tensor, torch.Tensor] | None
            result = engine.fused_allreduce_rmsnorm(input_, residual_inp_, weight_, eps)
        except Exception:  # as in SGLang, where the separate steps then serve
            return None
        return result

    @released(Parameters({"transpose_scale": Lifetime("0.5.19")}))
    def fused_allreduce_rmsnorm_quant_per_group(
        self,
        input_: torch.Tensor,
        residual_inp_: torch.Tensor,
        weight_: torch.Tensor,
        eps: float,
        group_size: int = 128,
        emit_bf16: bool = False,
        transpose_scale: bool = False,
    ) -> tuple[torch.Tensor, ...] | None:
        """None: only SGLang on ROCm sums, normalises and quantises at once."""
        return None

    def reduce_scatter_along_dim(self, input_: torch.Tensor, dim: int = -1) -> torch.Tensor:
        """The rank's part of the sum along a dimension, which must be a multiple of the group's size long.

        Raises AssertionError where it is not, or where there is no such dimension.
        """
        if self.world_size == 1:
            return input_
        dim = place(dim, input_.shape)
        whole = input_.movedim(dim, 0).contiguous()
        length, left = divmod(whole.shape[0], self.world_size)
        assert left == 0, f"{whole.shape[0]} cannot be parted among {self.world_size} ranks"
        part = whole.new_empty((length, *whole.shape[1:]))
        self.reduce_scatter_tensor(part, whole)
        return part.movedim(0, dim)

    def reduce_scatter_tensor(self, output: torch.Tensor, input: torch.Tensor) -> None:
        """Write this rank's part of the sum of all inputs into ``output``."""
        if since("0.5.21") and switches.SGLANG_ENABLE_DETERMINISTIC_INFERENCE.get():
            assert input.numel() == output.numel() * self.world_size, "the input is not one output for each rank"
            whole = self.all_reduce(input.clone())
            first = self.rank_in_group * output.numel()
            output.copy_(whole.reshape(-1).narrow(0, first, output.numel()).view_as(output))
        elif on_cpu_platform():
            self._reduce_scatter_tensor(output, input)
        else:
            state.reg_reduce_scatter_tensor(output, input, group_name=self.unique_name)

    def _reduce_scatter_tensor(self, output: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
        engine = self.available_pynccl
        if engine is not None and (not engine.disabled or self.is_symmetric_memory_enabled()):
            with engine.change_state(enable=True):
                engine.reduce_scatter(output, input)
        else:
            torch.distributed.reduce_scatter_tensor(output, input, group=self.device_group)
        return output

    def reduce_scatter(self, output: torch.Tensor, input_list: list[torch.Tensor]) -> torch.Tensor:
        """Write the sum of what all ranks have for this one into ``output``, and return it."""
        torch.distributed.reduce_scatter(output, input_list, group=self.device_group)
        return output

    def reduce_scatterv(
        self, input_: torch.Tensor, output: torch.Tensor | None = None, sizes: list[int] | None = None
    ) -> torch.Tensor:
        """The rank's rows of the sum, ``sizes[rank]`` of them, or equally many for each.

        Raises AssertionError for sizes that do not fit the input or the output. Works without PyNCCL, where SGLang does
        not: by an all-reduce.
        """
        rows = self._rows(input_, sizes)
        mine, first = rows[self.rank_in_group], sum(rows[: self.rank_in_group])
        shape = (mine, *input_.shape[1:])
        if output is None:
            output = input_.new_empty(shape)
        assert output.shape == shape, f"the output has shape {tuple(output.shape)}, and needs {shape}"
        deterministic = since("0.5.21") and switches.SGLANG_ENABLE_DETERMINISTIC_INFERENCE.get()
        engine = self.available_pynccl
        if engine is None or deterministic:
            output.copy_(self.all_reduce(input_.clone()).narrow(0, first, mine))
            return output
        with engine.change_state(enable=True):
            assert not engine.disabled, "PyNCCL is disabled and cannot be enabled"
            engine.reduce_scatter(output, input_, sizes=sizes)
        return output

    def _rows(self, input_: torch.Tensor, sizes: list[int] | None) -> list[int]:
        if sizes is None:
            rows, left = divmod(input_.shape[0], self.world_size)
            assert left == 0, f"{input_.shape[0]} rows cannot be parted among {self.world_size} ranks"
            return [rows] * self.world_size
        assert len(sizes) == self.world_size, f"there are {len(sizes)} sizes for {self.world_size} ranks"
        assert input_.shape[0] == sum(sizes), f"the sizes {sizes} are not those of {input_.shape[0]} rows"
        return sizes


def _inside(engine: Any, tensor: torch.Tensor) -> choice.Inside:
    """What an engine tells of itself, as far as it offers that."""
    verdict = getattr(engine, "verdict", None)
    return choice.Inside(
        str(getattr(verdict, "generation", "")),
        _told(engine, "algorithm", tensor),
        _told(engine, "explain", tensor),
        tuple(choice.PassedOver(*each) for each in getattr(verdict, "passed_over", ())),
    )


def _told(engine: Any, name: str, tensor: torch.Tensor) -> str:
    method = getattr(engine, name, None)
    if not callable(method):
        return ""
    try:
        return str(method(tensor))
    except Exception as error:  # a person is told what is wrong, not stopped by it
        return f"it cannot say, {type(error).__name__}: {error}"


def on_cpu_platform() -> bool:
    """Whether SGLang takes its way for the CPU: on the built-in CPU platform, from 0.5.19 on."""
    return since("0.5.19") and platforms.current_platform.is_cpu()
