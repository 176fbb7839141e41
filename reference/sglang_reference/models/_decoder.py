"""What the models have in common: embedding, layers and norm of a pipeline stage, and the head on its last rank.

The sum that runs beside the layers, which each norm adds to, is handed from layer to layer: as an argument and a result
before 0.5.22 (before 0.5.21 in deepseek_v2), by way of the batch from then on.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import nn

from ..layers.layernorm import RMSNorm
from ..layers.logits_processor import LogitsProcessor
from ..layers.utils._operator import PartialModule
from ..layers.utils.common import PPMissingLayer
from ..layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from ..model_executor.forward_batch_info import ForwardBatch, PPProxyTensors
from ..utils._layers import add_prefix, make_layers
from ._parallel import pipeline_group
from ._weights import Expert, Part, Weights, load

Sum = torch.Tensor | None


class Layer(PartialModule):
    """A decoder's layer: attention, then an MLP or experts, each behind a norm that adds to the running sum."""

    self_attn: nn.Module
    input_layernorm: RMSNorm
    post_attention_layernorm: RMSNorm
    through_batch: ClassVar[bool]
    """Whether the release hands the sum on by way of the batch."""

    def _add_norms(self, config: Any) -> None:
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    @abstractmethod
    def _feed(self, hidden: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        """The MLP, or the experts."""

    def _attend(self, positions: torch.Tensor, hidden: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        attended: torch.Tensor = self.self_attn(positions=positions, hidden_states=hidden, forward_batch=batch)
        return attended

    def _step(
        self, positions: torch.Tensor, hidden: torch.Tensor, batch: ForwardBatch, running: Sum
    ) -> tuple[torch.Tensor, Sum]:
        if self.through_batch:
            running = batch.residual_stream
        if running is None:
            running, hidden = hidden, self.input_layernorm(hidden)
        else:
            hidden, running = self.input_layernorm(hidden, running)
        hidden = self._attend(positions, hidden, batch)
        hidden, running = self.post_attention_layernorm(hidden, running)
        hidden = self._feed(hidden, batch)
        if self.through_batch:
            batch.residual_stream = running
        return hidden, running


class Stage(PartialModule):
    """A pipeline stage's part of a decoder."""

    start_layer: int
    end_layer: int

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        self.config = config
        self.vocab_size = config.vocab_size
        self.pp_group = pipeline_group()
        self.embed_tokens: nn.Module = (
            VocabParallelEmbedding(config.vocab_size, config.hidden_size, prefix=add_prefix("embed_tokens", prefix))
            if self.pp_group.is_first_rank
            else PPMissingLayer()
        )
        self.layers, self.start_layer, self.end_layer = make_layers(
            config.num_hidden_layers,
            lambda idx, prefix: self._layer(config, idx, quant_config, prefix),
            pp_rank=self.pp_group.rank_in_group,
            pp_size=self.pp_group.world_size,
            prefix=add_prefix("layers", prefix),
        )
        self.norm: nn.Module = (
            RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
            if self.pp_group.is_last_rank
            else PPMissingLayer(return_tuple=True)
        )

    @abstractmethod
    def _layer(self, config: Any, index: int, quant_config: Any, prefix: str) -> Layer:
        """Make a layer."""

    def _through(
        self, positions: torch.Tensor, hidden: torch.Tensor, batch: ForwardBatch, running: Sum
    ) -> tuple[torch.Tensor, Sum]:
        """The stage's layers, one after another, as the release hands the sum on."""
        layers: Any = self.layers
        for layer in layers[self.start_layer : self.end_layer]:
            if layer.through_batch:
                batch.residual_stream = running
                hidden = self._call(layer, positions, hidden, batch)
                running, batch.residual_stream = batch.residual_stream, None
            else:
                hidden, running, *_ = self._call(layer, positions, hidden, batch, running)
        return hidden, running

    def _call(self, layer: Layer, *given: Any) -> Any:
        return layer(*given)

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        input_embeds: torch.Tensor | None = None,
        pp_proxy_tensors: PPProxyTensors | None = None,
    ) -> torch.Tensor | PPProxyTensors:
        """Hidden states of all tokens; before the last stage, what the next one goes on from."""
        running: Sum = None
        if self.pp_group.is_first_rank:
            hidden = self.embed_tokens(input_ids) if input_embeds is None else input_embeds
        else:
            assert pp_proxy_tensors is not None, "a later stage needs what the one before it handed on"
            hidden, running = pp_proxy_tensors["hidden_states"], pp_proxy_tensors["residual"]
        hidden, running = self._through(positions, hidden, forward_batch, running)
        if not self.pp_group.is_last_rank:
            assert running is not None, "a stage without a layer has nothing to hand on"
            return PPProxyTensors({"hidden_states": hidden, "residual": running})
        normed: torch.Tensor = self.norm(hidden)[0] if running is None else self.norm(hidden, running)[0]
        return normed

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tokens."""
        return self.embed_tokens


class CausalLM(PartialModule):
    """A decoder and its head: logits of each sequence's last token. ``parts`` are those of its parameters."""

    parts: ClassVar[tuple[Part, ...]]
    model: Stage

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        self.config = config
        self.quant_config = quant_config
        self.pp_group = pipeline_group()
        self.model = self._stage(config, quant_config, add_prefix("model", prefix))
        tied = getattr(config, "tie_word_embeddings", False)
        self._tied_apart = tied and self.pp_group.world_size > 1 and self.pp_group.is_last_rank
        self.lm_head: nn.Module = (
            PPMissingLayer()
            if not self.pp_group.is_last_rank
            else self.model.embed_tokens
            if tied and not self._tied_apart
            else ParallelLMHead(
                config.vocab_size, config.hidden_size, quant_config=quant_config, prefix=add_prefix("lm_head", prefix)
            )
        )
        self.logits_processor = LogitsProcessor(config)

    @abstractmethod
    def _stage(self, config: Any, quant_config: Any, prefix: str) -> Stage:
        """Make this rank's part of the decoder."""

    def _experts(self) -> list[Expert]:
        """The parameters of experts, with the weights that they are made of."""
        return []

    @property
    def start_layer(self) -> int:
        """The first layer of this stage."""
        return self.model.start_layer

    @property
    def end_layer(self) -> int:
        """The layer after its last one."""
        return self.model.end_layer

    @torch.no_grad()
    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        input_embeds: torch.Tensor | None = None,
        pp_proxy_tensors: PPProxyTensors | None = None,
    ) -> Any:
        """Logits, in a LogitsProcessorOutput; before the last stage, what the next one goes on from."""
        hidden = self.model(input_ids, positions, forward_batch, input_embeds, pp_proxy_tensors=pp_proxy_tensors)
        if not self.pp_group.is_last_rank:
            return hidden
        return self.logits_processor(input_ids, hidden, self.lm_head, forward_batch)

    def _load(self, weights: Weights) -> None:
        """Put weights under Hugging Face's names in place, on this rank its part of them."""
        load(self, self._with_head(weights), self.parts, self._experts())

    def _with_head(self, weights: Weights) -> Weights:
        tied = getattr(self.config, "tie_word_embeddings", False)
        for name, weight in weights:
            if tied and name.startswith("lm_head."):
                continue
            yield name, weight
            if self._tied_apart and name == "model.embed_tokens.weight":
                yield "lm_head.weight", weight
