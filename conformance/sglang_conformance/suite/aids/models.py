"""Small models as SGLang's loader leaves them: what a platform meets in ``post_load_model``.

They have what loaded models have: layers with and without a bias, of one dimension and of two, an embedding that is
tied to the head (0.5.23, models/llama.py), a buffer, frozen parameters, a dropout that must stay off, a ``config``, and
the ``weight_loader`` by which new weights come in. All weights differ, so that a swap of any two shows.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .. import expect
from . import worker

TIED = ("embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True)
class Shape:
    """The sizes of a model: its words, the width between its layers, and within its one block."""

    words: int
    width: int
    hidden: int


def loaded(shape: Shape, device: Any) -> Any:
    """A torch module on the device, which maps the numbers of words to a score of each word."""
    import torch

    model = _assembled(shape, device)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            drawn = torch.rand(value.shape, generator=generator) * 2 - 1
            value.copy_(drawn.to(device))
    for name, parameter in model.named_parameters():
        parameter.weight_loader = _load_weight
        parameter.requires_grad_(name != "scale")
    return model.eval()


def hand_over(platform: Any, model: Any) -> expect.Answer:
    """Call post_load_model. NotCovered where it looks for something of the model that only SGLang's own models have."""
    try:
        return expect.ask(platform, "post_load_model", model)
    except expect.Violation as violation:
        raised = violation.__context__
        missing = isinstance(raised, AttributeError) and any(raised.obj is owner for owner in (model, model.config))
        if missing:
            text = f"post_load_model looks for what the kit's small model does not have: {raised}"
            raise expect.NotCovered(text) from violation
        raise


def computes(model: Any, shape: Shape, device: Any, *, call: str, where: str) -> None:
    """A violation where a score is further from what it should be than 2 % of the largest."""
    import torch

    words = torch.arange(shape.words)
    with torch.no_grad():
        expected = loaded(shape, torch.device("cpu"))(words).tolist()

    def outputs() -> Any:
        with torch.no_grad():
            return model(words.to(device)).float()

    scores = expect.attempt(f"{call}; model(...)", outputs, where=where).value
    expect.equal(list(scores.shape), [shape.words] * 2, call=f"{call}; the shape of model(...)", where=where)
    pairs = [pair for rows in zip(worker.values(scores), expected, strict=True) for pair in zip(*rows, strict=True)]
    allowed = 0.02 * max(abs(wanted) for _, wanted in pairs) + 1e-4
    far = next(((seen, wanted) for seen, wanted in pairs if not abs(seen - wanted) <= allowed), None)
    if far is not None:
        expect.fail(
            expected=f"{far[1]:.4g} within {allowed:.2g}", seen=f"{far[0]:.4g}", call=f"{call}; model(...)", where=where
        )


def layout(model: Any) -> dict[str, tuple[str, list[int]]]:
    """The type and shape of each of its parameters and buffers, by name."""
    return {name: (str(value.dtype), list(value.shape)) for name, value in model.state_dict().items()}


def without_loader(model: Any) -> list[str]:
    """The parameters that have lost the ``weight_loader`` that stood on them."""
    return [name for name, p in model.named_parameters() if getattr(p, "weight_loader", None) is not _load_weight]


def are_tied(model: Any) -> bool:
    """Whether head and embedding are one parameter, so that new weights of the one are the other's too."""
    named = dict(model.named_parameters(remove_duplicate=False))
    return named.get(TIED[0]) is named.get(TIED[1])


def loads_again(model: Any, *, call: str, where: str) -> None:
    """A violation where the model does not take weights of the same names, as SGLang updates them while serving."""
    import torch

    new = {name: torch.full_like(value, 2.0) for name, value in model.state_dict().items()}
    expect.attempt(f"{call}; model.load_state_dict(...)", lambda: model.load_state_dict(new), where=where)
    seen = {number for value in model.state_dict().values() for number in worker.values(value.flatten())}
    expect.equal(seen, {2.0}, call=f"{call}; the weights after load_state_dict", where=where)


def _load_weight(parameter: Any, weight: Any) -> None:
    parameter.data.copy_(weight)


def _assembled(shape: Shape, device: Any) -> Any:
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(
                architectures=["LlamaForCausalLM"],
                model_type="llama",
                hidden_size=shape.width,
                intermediate_size=shape.hidden,
                num_hidden_layers=1,
                vocab_size=shape.words,
                tie_word_embeddings=True,
            )
            self.embed_tokens = nn.Embedding(shape.words, shape.width, device=device)
            self.norm = nn.LayerNorm(shape.width, device=device)
            self.up = nn.Linear(shape.width, shape.hidden, device=device)
            self.dropout = nn.Dropout(0.5)
            self.down = nn.Linear(shape.hidden, shape.width, bias=False, device=device)
            self.scale = nn.Parameter(torch.empty(shape.width, device=device))
            self.register_buffer("offset", torch.empty(shape.width, device=device))
            self.lm_head = nn.Linear(shape.width, shape.words, bias=False, device=device)
            self.lm_head.weight = self.embed_tokens.weight

        def forward(self, words: Any) -> Any:
            embedded = self.embed_tokens(words)
            inner = self.dropout(torch.relu(self.up(self.norm(embedded))))
            return self.lm_head(embedded + self.down(inner) * self.scale + self.offset)

    return Model()
