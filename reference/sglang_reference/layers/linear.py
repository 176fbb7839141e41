"""``sglang.srt.layers.linear``: linear layers, whole on every rank or divided among them.

Up to 0.5.21 a layer is told rank and size, and keeps them as ``tp_rank`` and ``tp_size``; from 0.5.22 on it is told a
group by name. Reductions and gathers are those that this module has by name when a layer is called. Facts: SGLang
0.5.11, 0.5.17, 0.5.18, 0.5.22 and 0.5.23, srt/layers/linear.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from sglang_reference._errors import not_covered

from .._contract import since
from .._released import Lifetime, Parameters, released
from ..distributed import (
    divide,
    split_tensor_along_last_dim,
    tensor_model_parallel_all_gather,
    tensor_model_parallel_all_reduce,
)
from . import _weights
from ._partition import Partition, of_group
from .quantization.base_config import QuantizationConfig, QuantizeMethodBase
from .utils._operator import PartialModule

_TOLD = {"tp_rank": Lifetime(gone="0.5.22"), "tp_size": Lifetime(gone="0.5.22"), "parallel_group": Lifetime("0.5.22")}


def _parameters(*keyword_only: str, **more: Lifetime) -> Parameters:
    names = dict.fromkeys((*keyword_only, "parallel_group"), "0.5.22")
    return Parameters({**_TOLD, **more}, keyword_only=names)


class LinearBase(PartialModule):
    """A linear layer: its sizes, and the method that has its weight."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        skip_bias_add: bool = False,
        params_dtype: torch.dtype | None = None,
        quant_config: QuantizationConfig | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        from .quantization.unquant import UnquantizedLinearMethod

        self.input_size = input_size
        self.output_size = output_size
        self.skip_bias_add = skip_bias_add
        self.params_dtype = params_dtype or torch.get_default_dtype()
        self.quant_config = quant_config
        self.quant_method: QuantizeMethodBase | None = (
            UnquantizedLinearMethod() if quant_config is None else quant_config.get_quant_method(self, prefix=prefix)
        )

    def forward(self, x: torch.Tensor) -> Any:
        """Each kind of layer has its own."""
        raise NotImplementedError

    def _divide(self, part: Partition) -> None:
        self._part = part
        if not since("0.5.22"):
            self.tp_rank, self.tp_size = part

    def _create_weights(self, inputs: int, outputs: Sequence[int], loader: Any, **more: Any) -> None:
        assert self.quant_method is not None
        self.quant_method.create_weights(
            layer=self,
            input_size_per_partition=inputs,
            output_partition_sizes=list(outputs),
            input_size=self.input_size,
            output_size=self.output_size,
            params_dtype=self.params_dtype,
            weight_loader=loader,
            **more,
        )

    def _create_bias(self, wanted: bool, size: int, loader: Any) -> None:
        self.with_bias = wanted
        if not wanted:
            self.register_parameter("bias", None)
            return
        self.bias = nn.Parameter(torch.zeros(size, dtype=self.params_dtype), requires_grad=False)
        _weights.tell(self.bias, {"output_dim": 0, "weight_loader": loader})

    def _multiplied(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        assert self.quant_method is not None
        return cast(torch.Tensor, self.quant_method.apply(self, x, bias))


class ReplicatedLinear(LinearBase):
    """A linear layer that every rank has whole."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        bias: bool = True,
        skip_bias_add: bool = False,
        params_dtype: torch.dtype | None = None,
        quant_config: QuantizationConfig | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__(input_size, output_size, skip_bias_add, params_dtype, quant_config, prefix=prefix)
        assert self.quant_method is not None
        # By position, as SGLang gives them here and here alone: a vendor's method may name them otherwise.
        sizes = (input_size, [output_size], input_size, output_size, self.params_dtype)
        self.quant_method.create_weights(self, *sizes, weight_loader=self.weight_loader)
        self._create_bias(bias, output_size, self.weight_loader)

    def weight_loader(self, param: nn.Parameter, loaded_weight: torch.Tensor) -> None:
        """Copy a checkpoint's weight."""
        _weights.fill(_weights.plain(param), loaded_weight)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The output, and the bias where the caller is to add it."""
        output = self._multiplied(x, None if self.skip_bias_add else self.bias)
        return output, self.bias if self.skip_bias_add else None


class ColumnParallelLinear(LinearBase):
    """A linear layer whose outputs are divided among the ranks."""

    @released(_parameters("use_presharded_weights", "skip_block_quant_check"))
    def __init__(
        self,
        input_size: int,
        output_size: int,
        bias: bool = True,
        gather_output: bool = False,
        skip_bias_add: bool = False,
        params_dtype: torch.dtype | None = None,
        quant_config: QuantizationConfig | None = None,
        output_sizes: list[int] | None = None,
        prefix: str = "",
        tp_rank: int | None = None,
        tp_size: int | None = None,
        use_presharded_weights: bool = False,
        skip_block_quant_check: bool = False,
        parallel_group: Any = None,
    ) -> None:
        self._build(
            of_group(parallel_group, tp_rank, tp_size),
            [output_size],
            (input_size, output_size, skip_bias_add, params_dtype, quant_config, prefix),
            bias=bias,
            gather_output=gather_output,
            use_presharded_weights=use_presharded_weights,
            skip_block_quant_check=skip_block_quant_check,
        )

    def _build(
        self,
        part: Partition,
        sizes: Sequence[int],
        base: tuple[Any, ...],
        *,
        bias: bool,
        gather_output: bool = False,
        use_presharded_weights: bool = False,
        skip_block_quant_check: bool = False,
    ) -> None:
        """Make the layer: ``sizes`` are the outputs that are divided each for itself, ``base`` what its base takes."""
        LinearBase.__init__(self, *base)
        self._divide(part)
        self.gather_output = gather_output
        self.use_presharded_weights = use_presharded_weights
        self.output_size_per_partition = divide(self.output_size, part.size)
        self.output_partition_sizes = [divide(size, part.size) for size in sizes]
        loader = self.weight_loader
        more = {"skip_block_quant_check": skip_block_quant_check}
        self._create_weights(self.input_size, self.output_partition_sizes, loader, **more)
        self._create_bias(bias, self.output_size_per_partition, loader)

    def _place(self, data: torch.Tensor, weight: torch.Tensor, dim: int, rank: int) -> None:
        """Copy a rank's part of a checkpoint's weight; all of it where that is divided already."""
        if not self.use_presharded_weights:
            size = data.shape[dim]
            weight = _weights.part(weight, dim, rank * size, size)
        _weights.fill(data, weight)

    def weight_loader(self, param: nn.Parameter, loaded_weight: torch.Tensor) -> None:
        """Copy this rank's outputs of a checkpoint's weight."""
        data, dim = _weights.plain(param), getattr(param, "output_dim", None)
        if dim is None:
            _weights.fill(data, loaded_weight)
        else:
            self._place(data, loaded_weight, dim, self._part.rank)

    def forward(self, input_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The rank's outputs, or all, gathered; and the bias where the caller is to add it."""
        output = self._multiplied(input_, None if self.skip_bias_add else self.bias)
        if self.gather_output:
            output = cast(torch.Tensor, tensor_model_parallel_all_gather(output))
        return output, self.bias if self.skip_bias_add else None


class MergedColumnParallelLinear(ColumnParallelLinear):
    """Several column-parallel layers of one input, in one weight."""

    @released(_parameters("use_presharded_weights"))
    def __init__(
        self,
        input_size: int,
        output_sizes: list[int],
        bias: bool = True,
        gather_output: bool = False,
        skip_bias_add: bool = False,
        params_dtype: torch.dtype | None = None,
        quant_config: QuantizationConfig | None = None,
        prefix: str = "",
        tp_rank: int | None = None,
        tp_size: int | None = None,
        use_presharded_weights: bool = False,
        parallel_group: Any = None,
    ) -> None:
        part = of_group(parallel_group, tp_rank, tp_size)
        assert all(size % part.size == 0 for size in output_sizes), f"{output_sizes} do not divide by {part.size}"
        self._build(
            part,
            output_sizes,
            (input_size, sum(output_sizes), skip_bias_add, params_dtype, quant_config, prefix),
            bias=bias,
            gather_output=gather_output,
            use_presharded_weights=use_presharded_weights,
        )
        self.output_sizes = output_sizes
        self.prefix = prefix

    def weight_loader(
        self,
        param: nn.Parameter,
        loaded_weight: torch.Tensor,
        loaded_shard_id: tuple[int, ...] | int | None = None,
    ) -> None:
        """Copy this rank's outputs of one of the layers, or of all, where the checkpoint has them in one weight."""
        if isinstance(loaded_shard_id, tuple):
            raise NotImplementedError("a weight of several of the merged layers, but not of all, cannot be loaded")
        data, dim = _weights.plain(param), getattr(param, "output_dim", None)
        if dim is None:
            _weights.fill(data, loaded_weight)
        elif loaded_shard_id is None:
            sizes = self.output_partition_sizes if self.use_presharded_weights else self.output_sizes
            for number, weight in enumerate(torch.split(loaded_weight, sizes, dim)):
                self.weight_loader(param, weight, number)
        else:
            sizes = self.output_partition_sizes
            own = data.narrow(dim, sum(sizes[:loaded_shard_id]), sizes[loaded_shard_id])
            self._place(own, loaded_weight, dim, self._part.rank)


class QKVParallelLinear(ColumnParallelLinear):
    """Queries, keys and values, divided by heads; where ranks outnumber the key heads, several have the same one."""

    @released(
        _parameters(
            "load_presharded_attn",
            "v_head_size",
            "skip_block_quant_check",
            "kv_parallel_group",
            kv_tp_rank=Lifetime("0.5.18", "0.5.22"),
            kv_tp_size=Lifetime("0.5.18", "0.5.22"),
            kv_parallel_group=Lifetime("0.5.22"),
        )
    )
    def __init__(
        self,
        hidden_size: int,
        head_size: int,
        total_num_heads: int,
        total_num_kv_heads: int | None = None,
        bias: bool = True,
        skip_bias_add: bool = False,
        params_dtype: torch.dtype | None = None,
        quant_config: QuantizationConfig | None = None,
        prefix: str = "",
        tp_rank: int | None = None,
        tp_size: int | None = None,
        load_presharded_attn: bool = False,
        v_head_size: int | None = None,
        skip_block_quant_check: bool = False,
        kv_tp_rank: int | None = None,
        kv_tp_size: int | None = None,
        parallel_group: Any = None,
        kv_parallel_group: Any = None,
    ) -> None:
        if kv_parallel_group is not None or kv_tp_rank is not None or kv_tp_size is not None:
            raise not_covered("sglang.srt.layers.linear.QKVParallelLinear with another group for keys and values")
        part = of_group(parallel_group, tp_rank, tp_size)
        total_num_kv_heads = total_num_kv_heads or total_num_heads
        v_head_size = head_size if v_head_size is None else v_head_size
        heads = divide(total_num_heads, part.size)
        shared = part.size >= total_num_kv_heads
        kv_heads = 1 if shared else divide(total_num_kv_heads, part.size)
        sizes = [heads * head_size * part.size, kv_heads * head_size * part.size, kv_heads * v_head_size * part.size]
        self._build(
            part,
            sizes,
            (hidden_size, sum(sizes), skip_bias_add, params_dtype, quant_config, prefix),
            bias=bias,
            use_presharded_weights=load_presharded_attn,
            skip_block_quant_check=skip_block_quant_check,
        )
        self.output_sizes = sizes
        self.hidden_size = hidden_size
        self.head_size = head_size
        self.v_head_size = v_head_size
        self.total_num_heads = total_num_heads
        self.total_num_kv_heads = total_num_kv_heads
        self.num_heads = heads
        self.num_kv_heads = kv_heads
        self.num_kv_head_replicas = divide(part.size, total_num_kv_heads) if shared else 1
        self.q_proj_shard_size = heads * head_size
        self.kv_proj_shard_size = kv_heads * head_size
        self.v_proj_shard_size = kv_heads * v_head_size

    def weight_loader(
        self, param: nn.Parameter, loaded_weight: torch.Tensor, loaded_shard_id: str | None = None
    ) -> None:
        """Copy this rank's heads of ``q``, ``k`` or ``v``, or of all where the checkpoint has them in one weight."""
        data, dim = _weights.plain(param), getattr(param, "output_dim", None)
        if dim is None:
            _weights.fill(data, loaded_weight)
            return
        if loaded_shard_id is None:
            keys = self.total_num_kv_heads
            whole = [self.total_num_heads * self.head_size, keys * self.head_size, keys * self.v_head_size]
            sizes = self.output_partition_sizes if self.use_presharded_weights else whole
            for shard, weight in zip("qkv", torch.split(loaded_weight, sizes, dim), strict=True):
                self.weight_loader(param, weight, shard)
            return
        number = "qkv".index(loaded_shard_id)
        sizes = self.output_partition_sizes
        rank = self._part.rank if loaded_shard_id == "q" else self._part.rank // self.num_kv_head_replicas
        self._place(data.narrow(dim, sum(sizes[:number]), sizes[number]), loaded_weight, dim, rank)


class RowParallelLinear(LinearBase):
    """A linear layer whose inputs are divided among the ranks, and whose outputs are summed over them."""

    @released(_parameters("use_presharded_weights", "use_dp_attention_reduce"))
    def __init__(
        self,
        input_size: int,
        output_size: int,
        bias: bool = True,
        input_is_parallel: bool = True,
        skip_bias_add: bool = False,
        params_dtype: torch.dtype | None = None,
        reduce_results: bool = True,
        quant_config: QuantizationConfig | None = None,
        prefix: str = "",
        tp_rank: int | None = None,
        tp_size: int | None = None,
        use_presharded_weights: bool = False,
        use_dp_attention_reduce: bool = False,
        parallel_group: Any = None,
    ) -> None:
        super().__init__(input_size, output_size, skip_bias_add, params_dtype, quant_config, prefix)
        if use_dp_attention_reduce:
            raise not_covered("sglang.srt.layers.linear.RowParallelLinear with use_dp_attention_reduce")
        self._divide(of_group(parallel_group, tp_rank, tp_size))
        self.input_is_parallel = input_is_parallel
        self.reduce_results = reduce_results
        self.use_presharded_weights = use_presharded_weights
        self.use_dp_attention_reduce = use_dp_attention_reduce
        self.input_size_per_partition = divide(input_size, self._part.size)
        self._create_weights(self.input_size_per_partition, [output_size], self.weight_loader)
        self._create_bias(bias, output_size, self.weight_loader)

    def weight_loader(self, param: nn.Parameter, loaded_weight: torch.Tensor) -> None:
        """Copy this rank's inputs of a checkpoint's weight."""
        data, dim = _weights.plain(param), getattr(param, "input_dim", None)
        if dim is not None and not self.use_presharded_weights:
            size = data.shape[dim]
            loaded_weight = _weights.part(loaded_weight, dim, self._part.rank * size, size)
        _weights.fill(data, loaded_weight)

    @released(Parameters({"output_tensor": Lifetime("0.5.17")}))
    def forward(
        self,
        input_: torch.Tensor,
        skip_all_reduce: bool = False,
        forward_batch: Any = None,
        output_tensor: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The output summed over the ranks, or this rank's share of it; and the bias where the caller is to add it."""
        if output_tensor is not None:
            raise not_covered("sglang.srt.layers.linear.RowParallelLinear.forward with output_tensor")
        part = self._part
        if not self.input_is_parallel:
            input_ = split_tensor_along_last_dim(input_, num_partitions=part.size)[part.rank].contiguous()
        # One rank adds the bias, or the sum would have it several times.
        bias = None if part.rank > 0 or self.skip_bias_add else self.bias
        assert self.quant_method is not None
        output = cast(torch.Tensor, self.quant_method.apply(self, input_, bias=bias))
        if self.reduce_results and part.size > 1 and not skip_all_reduce:
            output = tensor_model_parallel_all_reduce(output)
        return output, self.bias if self.skip_bias_add else None
