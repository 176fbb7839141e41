"""A decoder of one of three kinds, computed on whole sequences, without a cache of keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import attention, feedforward
from .arithmetic import Array, normed, projected
from .batch import Batch, Draft
from .points import Embedded, Everywhere, Point, Steps, Vocabulary, named

ARCHITECTURES = ("LlamaForCausalLM", "MixtralForCausalLM", "DeepseekV2ForCausalLM")


@dataclass(frozen=True)
class Trace:
    """Every point of a batch, in the order of execution; the last holds the logits of every token's successor."""

    batch: Batch
    points: tuple[Point, ...]

    @property
    def logits(self) -> Array:
        """``[token, vocabulary]``."""
        return self.points[-1].value

    def point(self, name: str) -> Point:
        """The point of that name. Raises KeyError where there is none."""
        return named(self.points, name)


@dataclass(frozen=True)
class Continuation:
    """The greedy continuation of a prompt, with the logits that each of its tokens was chosen by."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logits: Array

    @property
    def sequence(self) -> tuple[int, ...]:
        """All tokens but the last, which nothing is computed from: a trace's last rows of it chose the new tokens."""
        return (*self.prompt, *self.tokens[:-1])

    @property
    def margins(self) -> Array:
        """By how much each token's logit exceeds the next best."""
        return margins(self.logits)


@dataclass(frozen=True)
class Decoder:
    """A model by Hugging Face's names: what its ``config.json`` holds, and its weights."""

    config: Mapping[str, Any]
    weights: Mapping[str, Array]

    @staticmethod
    def of(config: Mapping[str, Any], weights: Mapping[str, Array]) -> Decoder:
        """A decoder whose weights are taken as float64. Raises ValueError for a kind or a part that is unknown here."""
        if (architecture := config["architectures"][0]) not in ARCHITECTURES:
            raise ValueError(f"the oracle knows {', '.join(ARCHITECTURES)}, not {architecture}")
        for name in ("rope_scaling", "q_lora_rank", "sliding_window", "attention_bias", "mlp_bias"):
            if config.get(name):
                raise ValueError(f"the oracle knows no {name}, which is {config[name]!r}")
        if config.get("kv_lora_rank") and config["first_k_dense_replace"] < config["num_hidden_layers"]:
            raise ValueError("the oracle knows no experts beside latent attention")
        return Decoder(config, {name: np.asarray(weight, dtype=np.float64) for name, weight in weights.items()})

    def trace(self, sequences: Sequence[Sequence[int]]) -> Trace:
        """Every point for whole sequences. Raises ValueError for an empty one, IndexError for unknown tokens."""
        batch = Batch.of(sequences)
        return Trace(batch, tuple(_driven(self._points(batch, slice(None)), lambda point: point.value)))

    def followed(self, sequences: Sequence[Sequence[int]], seen: Callable[[Point], Array]) -> Trace:
        """Every point for whole sequences, each computed from what was ``seen`` in the places of those before it.

        What an operator should have made of what it was given can be told so, whatever went wrong before. Where
        nothing was seen, the point's own value is to be returned.
        """
        batch = Batch.of(sequences)
        return Trace(batch, tuple(_driven(self._points(batch, slice(None)), seen)))

    def continued(self, prompts: Sequence[Sequence[int]], count: int) -> list[Continuation]:
        """Each prompt's next ``count`` tokens, each the one of the highest logit after all tokens before it.

        They are found token by token, by a draft that remembers keys and values; then one pass over the whole
        sequences gives the logits, and must choose the same tokens.
        """
        draft, rows = Draft.of(prompts), []
        for _ in range(count):
            *_, last = _driven(self._points(draft, draft.last), lambda point: point.value)
            rows.append(last.value.argmax(axis=1))
            draft = draft.then(rows[-1])
        drafted = np.stack(rows, axis=1)
        whole = Batch.of([[*prompt, *tokens[:-1]] for prompt, tokens in zip(prompts, drafted, strict=True)])
        wanted = np.concatenate([np.arange(span.stop - count, span.stop) for span in whole.spans])
        *_, last = _driven(self._points(whole, wanted), lambda point: point.value)
        logits = last.value.reshape(len(prompts), count, -1)
        if not np.array_equal(logits.argmax(axis=2), drafted):
            raise ArithmeticError("the draft of a continuation and the whole sequences choose different tokens")
        chosen = zip(prompts, drafted.tolist(), logits, strict=True)
        return [Continuation(tuple(prompt), tuple(tokens), own) for prompt, tokens, own in chosen]

    def _points(self, batch: Batch, wanted: slice | Array) -> Steps:
        """The points in order; those after the last layer only for the wanted rows."""
        weights, eps = self.weights, self.config["rms_norm_eps"]
        table = weights["model.embed_tokens.weight"]
        residual = table[batch.tokens]
        residual = yield Point("model.embed_tokens", "embedding", None, residual, Embedded(batch.tokens, len(table)))
        for layer in range(self.config["num_hidden_layers"]):
            own = f"model.layers.{layer}"
            module = f"{own}.input_layernorm"
            residual = yield Point(module, "residual", layer, residual, Everywhere(), "residual")
            hidden = yield Point(module, "norm", layer, normed(residual, weights[f"{module}.weight"], eps))
            attend = attention.latent if self.config.get("kv_lora_rank") else attention.grouped
            residual = residual + (yield from attend(self.config, weights, layer, hidden, batch))
            module = f"{own}.post_attention_layernorm"
            residual = yield Point(module, "residual", layer, residual, Everywhere(), "residual")
            hidden = yield Point(module, "norm", layer, normed(residual, weights[f"{module}.weight"], eps))
            if self.config.get("num_local_experts"):
                residual = residual + (yield from feedforward.sparse(self.config, weights, layer, hidden))
            else:
                residual = residual + (yield from feedforward.dense(weights, layer, hidden))
        residual = residual[wanted]
        residual = yield Point("model.norm", "residual", None, residual, Everywhere(), "residual")
        hidden = yield Point("model.norm", "norm", None, normed(residual, weights["model.norm.weight"], eps))
        head = table if self.config.get("tie_word_embeddings") else weights["lm_head.weight"]
        return (yield Point("logits_processor", "logits", None, projected(hidden, head), Vocabulary()))


def _driven(steps: Steps, seen: Callable[[Point], Array]) -> Iterator[Point]:
    """The points; after each, the steps go on with what was seen in its place."""
    point = next(steps)
    while True:
        yield point
        try:
            point = steps.send(seen(point))
        except StopIteration:
            return


def margins(logits: Array) -> Array:
    """By how much the highest logit of each row exceeds the next."""
    best = np.partition(logits, -2, axis=-1)[..., -2:]
    exceeding: Array = best[..., 1] - best[..., 0]
    return exceeding
