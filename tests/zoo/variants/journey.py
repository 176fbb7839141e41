"""Right plugins that serve models by parts of their own."""

from __future__ import annotations

from zoo import serving_parts as parts
from zoo.workshop import Variant

JOURNEY = tuple(f"JOUR-{number:03}" for number in range(1, 18))

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

# A page of a head's tokens after another: pages, heads, tokens, width.
_SHAPE = "shape = (self.layer_num, 2, self.size + self.page_size, self.head_num, self.head_dim)"
_IN_PAGES = "shape = (self.layer_num, 2, self.size // self.page_size + 1, self.head_num, self.page_size, self.head_dim)"
_PAGES = parts.changed(
    parts.POOL,
    (_SHAPE, _IN_PAGES),
    ("        own =", "        page, within = slots // self.page_size, slots % self.page_size\n        own ="),
    ("self.buffer[own, 0, slots] =", "self.buffer[own, 0][page, :, within] ="),
    ("self.buffer[own, 1, slots] =", "self.buffer[own, 1][page, :, within] ="),
)
_READ = """\
def read(buffer, slots):
    if buffer.dim() == 3:
        return buffer[slots]
    return buffer[slots // buffer.shape[2], :, slots % buffer.shape[2]]


"""
_OF_PAGES = parts.changed(
    parts.ATTENTION,
    ("keys[slots], values[slots], layer", "read(keys, slots), read(values, slots), layer"),
    ("def one(", f"{_READ}def one("),
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
    Variant(
        "serves-by-a-pool-of-pages",
        JOURNEY,
        (*parts.pool(_PAGES), *parts.attention(_OF_PAGES)),
        "how a pool is laid out is between it and the backend that reads it",
    ),
    Variant(
        "serves-by-blocks-of-its-own",
        JOURNEY,
        parts.fused("llama.LlamaMLP", parts.BLOCK),
        "a hook may have several operators computed at once",
    ),
)
