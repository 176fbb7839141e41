"""``sglang.srt.layers.vocab_parallel_embedding``: a vocabulary divided among the ranks, looked up or multiplied with.

The vocabulary is padded, so that every rank has as many rows; added (LoRA's) rows are not covered. The reduction is the
one that this module has by name when a layer is called. Facts: SGLang 0.5.11, 0.5.16, 0.5.20 and 0.5.23.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sglang_reference._errors import not_covered

from .._released import Lifetime, Parameters, released
from ..distributed import divide, tensor_model_parallel_all_reduce
from . import _weights
from ._partition import ALONE, attention_tensor_parallel, tensor_parallel
from .quantization.base_config import QuantizationConfig, QuantizeMethodBase, method_has_implemented_embedding
from .quantization.unquant import UnquantizedEmbeddingMethod
from .utils._operator import PartialModule

DEFAULT_VOCAB_PADDING_SIZE = 64

_EMBEDDING = Parameters({"output_dtype": Lifetime("0.5.20")})
_HEAD = Parameters({"enable_tp": Lifetime("0.5.16")})


def pad_vocab_size(vocab_size: int, pad_to: int = DEFAULT_VOCAB_PADDING_SIZE) -> int:
    """The next multiple of ``pad_to``."""
    return -(-vocab_size // pad_to) * pad_to


def vocab_range_from_global_vocab_size(
    global_vocab_size: int, rank: int, world_size: int, offset: int = 0
) -> tuple[int, int]:
    """The first row of a rank, and the first that is not its own; raises where the rows do not divide evenly."""
    rows = divide(global_vocab_size, world_size)
    return offset + rank * rows, offset + (rank + 1) * rows


def get_masked_input_and_mask(
    input_: torch.Tensor,
    org_vocab_start_index: int,
    org_vocab_end_index: int,
    num_org_vocab_padding: int,
    added_vocab_start_index: int,
    added_vocab_end_index: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers within a rank's part, 0 for those of other ranks, and which ones those are."""
    if added_vocab_end_index > added_vocab_start_index:
        raise not_covered("a vocabulary with added rows")
    elsewhere = (input_ < org_vocab_start_index) | (input_ >= org_vocab_end_index)
    return (input_ - org_vocab_start_index).masked_fill(elsewhere, 0), elsewhere


@dataclass
class VocabParallelEmbeddingShardIndices:
    """The rows of a rank: with padding and without."""

    padded_org_vocab_start_index: int
    padded_org_vocab_end_index: int
    org_vocab_start_index: int
    org_vocab_end_index: int

    @property
    def num_org_elements(self) -> int:
        """How many rows have a token."""
        return self.org_vocab_end_index - self.org_vocab_start_index

    @property
    def num_org_vocab_padding(self) -> int:
        """How many rows have none."""
        return self.num_elements_padded - self.num_org_elements

    @property
    def num_elements_padded(self) -> int:
        """How many rows there are."""
        return self.padded_org_vocab_end_index - self.padded_org_vocab_start_index


class VocabParallelEmbedding(PartialModule):
    """Look tokens up: each rank its own, summed."""

    @released(_EMBEDDING)
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        params_dtype: torch.dtype | None = None,
        output_dtype: torch.dtype | None = None,
        org_num_embeddings: int | None = None,
        padding_size: int = DEFAULT_VOCAB_PADDING_SIZE,
        quant_config: QuantizationConfig | None = None,
        prefix: str = "",
        enable_tp: bool = True,
        use_attn_tp_group: bool = False,
        use_presharded_weights: bool = False,
    ) -> None:
        super().__init__()
        if org_num_embeddings not in (None, num_embeddings):
            raise not_covered("a vocabulary with added rows")
        part = (attention_tensor_parallel() if use_attn_tp_group else tensor_parallel()) if enable_tp else ALONE
        if use_attn_tp_group and part != tensor_parallel():
            raise not_covered("a vocabulary divided among attention's ranks alone")
        self.quant_config = quant_config
        self.enable_tp = enable_tp
        self.use_attn_tp_group = use_attn_tp_group
        self.use_presharded_weights = use_presharded_weights
        self.output_dtype = output_dtype
        self.tp_size = part.size
        self.num_embeddings = self.org_vocab_size = num_embeddings
        self.embedding_dim = embedding_dim
        if pad_vocab_size(num_embeddings, padding_size) % part.size != 0:
            padding_size *= part.size
        self.padding_size = padding_size
        self.org_vocab_size_padded = self.num_embeddings_padded = pad_vocab_size(num_embeddings, padding_size)
        first, end = vocab_range_from_global_vocab_size(self.num_embeddings_padded, part.rank, part.size)
        self.shard_indices = VocabParallelEmbeddingShardIndices(
            first, end, min(first, num_embeddings), min(end, num_embeddings)
        )
        self.num_embeddings_per_partition = end - first
        method = None if quant_config is None else quant_config.get_quant_method(self, prefix=prefix)
        self.quant_method: QuantizeMethodBase = method or UnquantizedEmbeddingMethod()
        if type(self) is VocabParallelEmbedding and not method_has_implemented_embedding(type(self.quant_method)):
            raise NotImplementedError(
                f"{type(self.quant_method).__name__} has no method embedding, which a table needs"
            )
        self.quant_method.create_weights(
            self,
            embedding_dim,
            [self.num_embeddings_per_partition],
            embedding_dim,
            self.num_embeddings_padded,
            params_dtype=params_dtype or torch.get_default_dtype(),
            weight_loader=self.weight_loader,
        )

    def weight_loader(self, param: nn.Parameter, loaded_weight: torch.Tensor) -> None:
        """Copy this rank's rows of a checkpoint's weight; the rows of the padding are 0."""
        data, dim = _weights.plain(param), getattr(param, "output_dim", None)
        if dim is None:
            _weights.fill(data, loaded_weight)
            return
        here = self.shard_indices
        if not self.use_presharded_weights:
            rows = loaded_weight.shape[dim]
            assert rows == self.org_vocab_size, f"the vocabulary has {self.org_vocab_size} rows, the weight {rows}"
            loaded_weight = loaded_weight.narrow(dim, here.org_vocab_start_index, here.num_org_elements)
        data[: loaded_weight.shape[0]].copy_(loaded_weight)
        data[loaded_weight.shape[0] :].fill_(0)

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        """The rows of the tokens."""
        method: Any = self.quant_method
        if self.tp_size == 1:
            rows: torch.Tensor = method.embedding(self, input_.long())
            return rows if self.output_dtype is None else rows.to(self.output_dtype)
        here = self.shard_indices
        own, elsewhere = get_masked_input_and_mask(
            input_, here.org_vocab_start_index, here.org_vocab_end_index, here.num_org_vocab_padding, 0, 0
        )
        rows = method.embedding(self, own.long())
        if self.output_dtype is not None:
            rows = rows.to(self.output_dtype)
        rows = rows.masked_fill(elsewhere.unsqueeze(-1), 0)
        return tensor_model_parallel_all_reduce(rows)


class ParallelLMHead(VocabParallelEmbedding):
    """A head over the vocabulary: its weight is for the logits processor, and may be the embedding's."""

    @released(_HEAD)
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        bias: bool = False,
        params_dtype: torch.dtype | None = None,
        org_num_embeddings: int | None = None,
        padding_size: int = DEFAULT_VOCAB_PADDING_SIZE,
        quant_config: QuantizationConfig | None = None,
        prefix: str = "",
        enable_tp: bool = True,
        use_attn_tp_group: bool = False,
        use_presharded_weights: bool = False,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            params_dtype=params_dtype,
            org_num_embeddings=org_num_embeddings,
            padding_size=padding_size,
            quant_config=quant_config,
            prefix=prefix,
            enable_tp=enable_tp,
            use_attn_tp_group=use_attn_tp_group,
            use_presharded_weights=use_presharded_weights,
        )
        if not bias:
            self.register_parameter("bias", None)
            return
        self.bias = nn.Parameter(
            torch.zeros(self.num_embeddings_per_partition, dtype=params_dtype), requires_grad=False
        )
        _weights.tell(self.bias, {"output_dim": 0, "weight_loader": self.weight_loader})

    def tie_weights(self, embed_tokens: VocabParallelEmbedding) -> ParallelLMHead:
        """Take the embedding's weight for one's own."""
        self.weight = embed_tokens.weight
        return self

    def forward(self, input_: Any) -> torch.Tensor:
        """Refuse: raises RuntimeError."""
        raise RuntimeError("a head is not called; the logits processor multiplies with its weight")
