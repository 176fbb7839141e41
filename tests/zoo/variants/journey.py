"""Right plugins that serve models by parts of their own."""

from __future__ import annotations

from zoo import serving_parts as parts
from zoo.workshop import Variant

JOURNEY = tuple(f"JOUR-{number:03}" for number in range(1, 11))

_FOLDED = (
    "for layer in model.model.layers:",
    "    after = getattr(layer, 'mlp', None)",
    "    for norm, next in ((layer.input_layernorm, layer.self_attn), (layer.post_attention_layernorm, after)):",
    "        for name in ('qkv_proj', 'gate_up_proj', 'q_proj', 'kv_a_proj_with_mqa'):",
    "            if hasattr(next, name):",
    "                getattr(next, name).weight.data *= norm.weight.data",
    "        if next is not None:",
    "            norm.weight.data.fill_(1)",
)

VARIANTS = (
    Variant(
        "serves-with-the-weights-of-norms-in-what-comes-next",
        JOURNEY,
        parts.loading(*_FOLDED),
        "what comes of it is the same, and post_load_model() is there to change weights (0.5.23, interface.py)",
    ),
    Variant(
        "serves-with-positions-that-begin-at-one",
        JOURNEY,
        parts.operators(
            parts.changed(parts.OPERATORS, ("positions + offsets).flatten()", "positions + offsets).flatten() + 1"))
        ),
        "attention sees only the differences of positions",
    ),
    Variant("serves-by-operators-of-its-own", JOURNEY, parts.operators(), "they compute the same"),
    Variant("serves-by-a-pool-of-its-own", JOURNEY, parts.pool(), "where keys and values lie is the pool's own affair"),
    Variant("serves-by-the-highest-pages-first", JOURNEY, parts.allocator(), "any free page will do"),
    Variant("serves-by-attention-of-its-own", JOURNEY, parts.attention(), "it computes the same"),
)
