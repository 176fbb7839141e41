"""Plugins that serve a model wrongly, each by one part of its own."""

from __future__ import annotations

from collections.abc import Callable

from zoo import serving_parts as parts
from zoo.workshop import Defect, Edit

_DEADLINE = 30.0
Change = tuple[str, str]


def _part(kind: Callable[[str], tuple[Edit, ...]], text: str, *says: str) -> Callable[..., Defect]:
    """What makes defects by changing a plugin's own part of that kind; ``says`` is told of each."""

    def defect(name: str, requirement: str, *changes: Change, told: tuple[str, ...] = ()) -> Defect:
        edits = kind(parts.changed(text, *changes))
        return Defect(name, requirement, edits, deadline=_DEADLINE, says=(*says, *told))

    return defect


_operators = _part(parts.operators, parts.OPERATORS, "acme/operators.py:", "by get_dispatch_key_name()")
_pool = _part(parts.pool, parts.POOL, "acme/pool.py:", "acme.pool.AcmePool, which SGLang has by get_kv_pool_cls()")
_allocator = _part(parts.allocator, parts.ALLOCATOR, "by get_paged_allocator_cls()")
_attention = _part(
    parts.attention, parts.ATTENTION, "acme.attention.AcmeAttention", "by get_default_attention_backend() or"
)


def _fused(name: str, requirement: str, target: str, text: str) -> Defect:
    """A plugin whose hook has what a class of SGLang's models computes by several modules computed at once."""
    says = ("what stands in the place of model.layers.0.", "as by a hook of the plugin")
    return Defect(name, requirement, parts.fused(target, text), deadline=_DEADLINE, says=says)


_VALUES = "        self.buffer[own, 1, slots] = cache_v.to(self.dtype)\n"
_FILL = "        return self.fill([(n - 1, last, 1) for n, last in zip(seq_lens_cpu.tolist(), last_loc.tolist())])\n"
_KEEP = (
    "        for page in (slots[{}] // self.page_size).tolist():\n            self.pages = [*self.pages[1:], page]\n"
)
_EXTEND = "        return self.fill(list(zip(before, last_loc.tolist(), (b - a for a, b in zip(before, after)))))\n"
_SLOTS = "self.slots = [self.table[row, :length].long() for row, length in zip(rows, lengths)]"
_DECODE = """\
    def forward_decode(self, q, k, v, layer, forward_batch, save_kv_cache=True, **kwargs):
        return self.attend(q, k, v, layer, forward_batch, save_kv_cache)
"""

_EXPERTS = """\
import torch
from torch.nn import functional


def block(self, x):
    shares = functional.linear(x, self.gate.weight).softmax(dim=-1)
    given = torch.zeros_like(x)
    for expert, (ups, down) in enumerate(zip(self.experts.w13_weight, self.experts.w2_weight)):
        gate, up = functional.linear(x, ups).chunk(2, dim=-1)
        given = given - shares[:, expert, None] * functional.linear(functional.silu(gate) * up, down)
    return given
"""
DEFECTS = (
    # A model does not come up.
    Defect(
        "kv-pool-wants-a-layout",
        "JOUR-001",
        parts.pool(
            parts.changed(
                parts.POOL,
                (
                    "    def _create_buffers(self):\n",
                    "    def _create_buffers(self):\n        self.layout = self.device.layout\n",
                ),
            )
        ),
        also=("FAC-007",),
        deadline=_DEADLINE,
        says=("acme/pool.py:", "which platform.get_kv_pool_cls() gave"),
    ),
    Defect(
        "attention-backend-is-registered-by-another-name",
        "JOUR-001",
        (
            Edit(
                "attention.py",
                "register_attention_backend(NAME)(make)",
                'register_attention_backend("simulated")(make)',
            ),
        ),
        of="sim",
        deadline=_DEADLINE,
        says=(
            "Invalid attention backend: sim",
            "the attention backend is the platform's, by get_default_attention_backend()",
        ),
    ),
    Defect(
        "allocator-is-a-pool",
        "JOUR-001",
        (
            *parts.pool(),
            *parts.allocator(
                parts.changed(
                    parts.ALLOCATOR,
                    ("class AcmeAllocator(PagedTokenToKVPoolAllocator):", "class Unused(PagedTokenToKVPoolAllocator):"),
                )
                + "\n\nfrom acme.pool import AcmePool as AcmeAllocator\n"
            ),
        ),
        also=("FAC-009",),
        deadline=_DEADLINE,
        says=("class AcmePool, which platform.get_paged_allocator_cls() gave",),
    ),
    # Operators under the platform's key.
    _operators("norm-forgets-its-weight", "JOUR-002", (".sqrt() * self.weight)", ".sqrt())")),
    _operators("norm-has-an-eps-of-its-own", "JOUR-002", ("mean + self.variance_epsilon", "mean + 1e-6")),
    _operators("norm-keeps-the-residual-of-before", "JOUR-002", ("x = residual = x + residual", "x = x + residual")),
    _operators(
        "activation-takes-the-halves-in-the-other-order",
        "JOUR-002",
        ("F.silu(x[..., :half]) * x[..., half:]", "F.silu(x[..., half:]) * x[..., :half]"),
    ),
    _operators(
        "rope-is-one-position-late-in-decode",
        "JOUR-002",
        ("positions + offsets).flatten()", "positions + offsets).flatten() + (len(positions) < 7)"),
    ),
    _operators(
        "rope-knows-one-style-only",
        "JOUR-002",
        ("        if self.is_neox_style:\n", "        if True:\n"),
    ),
    _operators(
        "experts-shares-do-not-make-up-one", "JOUR-002", ("scores / scores.sum(dim=-1, keepdim=True)", "scores")
    ),
    _operators(
        "norm-gives-no-numbers-for-the-first-token",
        "JOUR-002",
        ("    return scaled if", "    scaled[:1] = scaled[:1] / 0 * 0\n    return scaled if"),
    ),
    # What is done to weights.
    Defect(
        "loading-rounds-the-weights-of-a-layer",
        "JOUR-003",
        parts.loading(
            "weight = model.model.layers[1].self_attn.o_proj.weight",
            "weight.data = weight.data.to(torch.float8_e4m3fn).to(weight.dtype)",
        ),
        deadline=_DEADLINE,
        says=("model.layers.1.self_attn.o_proj", "what post_load_model() gives"),
    ),
    Defect(
        "loading-leaves-a-row-of-the-embedding-out",
        "JOUR-003",
        parts.loading("model.model.embed_tokens.weight.data[-200] = 0"),
        deadline=_DEADLINE,
        says=("model.embed_tokens", "what post_load_model() gives"),
    ),
    # The pool.
    _pool("pool-keeps-keys-as-values", "JOUR-004", (_VALUES, _VALUES.replace("cache_v", "cache_k"))),
    _pool(
        "pool-has-one-buffer-for-all-layers",
        "JOUR-004",
        ("own = layer.layer_id - self.start_layer", "own = 0"),
        ("layer[0] for layer in self.buffer", "self.buffer[0, 0] for layer in self.buffer"),
        ("layer[1] for layer in self.buffer", "self.buffer[0, 1] for layer in self.buffer"),
    ),
    _pool(
        "pool-drops-the-last-of-many-tokens",
        "JOUR-004",
        (_VALUES, f"{_VALUES}        if len(slots) > 8:\n            self.buffer[own, 1, slots[-1]] = 0\n"),
    ),
    # The allocator. What it has free adds up in the end.
    _allocator(
        "allocator-extends-by-a-page-that-it-keeps",
        "JOUR-001",
        (_EXTEND, f"{_EXTEND.replace('return', 'slots =')}{_KEEP.format('-1:')}        return slots\n"),
        ("self.held = set()", "self.held = []"),
        ("self.held |= pages", "self.held += pages"),
    ),
    _allocator(
        "allocator-decodes-into-a-page-that-it-keeps",
        "JOUR-005",
        (
            _FILL,
            f"{_FILL.replace('return', 'slots =')}{_KEEP.format('slots % self.page_size == 0')}        return slots\n",
        ),
    ),
    _allocator(
        "allocator-takes-back-a-page-twice",
        "JOUR-001",
        ("self.pages.extend(sorted(pages))", "self.pages.extend(sorted([*pages, *pages]))"),
    ),
    # Attention.
    _attention(
        "attention-reads-past-the-sequence",
        "JOUR-006",
        (_SLOTS, _SLOTS.replace(":length]", ":length + decodes]")),
    ),
    _attention(
        "attention-ignores-the-newest-token-of-decode",
        "JOUR-006",
        (_SLOTS, _SLOTS.replace(":length]", ":length - (decodes and length > 8)]")),
    ),
    _attention(
        "attention-takes-the-next-requests-slots",
        "JOUR-006",
        (_SLOTS, _SLOTS.replace("zip(rows, lengths)", "zip(rows[1:] + rows[:1] if decodes else rows, lengths)")),
    ),
    _attention(
        "attention-is-off-in-decode-only",
        "JOUR-006",
        (_DECODE, _DECODE.replace("return self.attend(", "return 1.001 * self.attend(")),
    ),
    _attention(
        "attention-looks-at-the-next-token-too",
        "JOUR-006",
        ("positions > positions[", "positions > 1 + positions["),
    ),
    # What is in no part that is seen.
    _fused(
        "llama-has-a-wrong-block-of-the-plugins",
        "JOUR-007",
        "llama.LlamaMLP",
        parts.BLOCK.replace("silu(gate)", "silu(-gate)"),
    ),
    _fused(
        "latent-attention-has-a-wrong-block-of-the-plugins",
        "JOUR-008",
        "deepseek_v2.DeepseekV2MLP",
        parts.BLOCK.replace("silu(gate)", "silu(-gate)"),
    ),
    _fused(
        "experts-are-a-wrong-block-of-the-plugins",
        "JOUR-009",
        "mixtral.MixtralMoE",
        _EXPERTS,
    ),
    _fused(
        "llama-has-a-block-that-is-slightly-off",
        "JOUR-010",
        "llama.LlamaMLP",
        parts.BLOCK.replace("* up", "* 1.001 * up"),
    ),
    # What the usual requests do not show.
    Defect(
        "loading-puts-the-last-norm-into-a-tied-head",
        "JOUR-011",
        parts.loading(
            "norm = model.model.norm.weight",
            "model.lm_head.weight.data *= norm.data",
            "norm.data.fill_(1)",
        ),
        deadline=_DEADLINE,
        says=("serving llama-tied", "what post_load_model() gives"),
    ),
    _operators(
        "activation-is-approximated-in-short-types",
        "JOUR-012",
        ("    return F.silu(", "    silu = F.silu if x.dtype == torch.float32 else F.hardswish\n    return silu("),
    ),
    _attention(
        "attention-remembers-slots-by-row-and-length",
        "JOUR-013",
        ("        super().__init__()\n", "        super().__init__()\n        self.known = {}\n"),
        (
            _SLOTS,
            f"{_SLOTS}\n"
            "        keys = list(zip(rows, lengths))\n"
            "        self.slots = [self.known.setdefault(key, slots) for key, slots in zip(keys, self.slots)]",
        ),
    ),
    _attention(
        "attention-takes-the-last-request-for-the-longest",
        "JOUR-014",
        (
            _SLOTS,
            f"{_SLOTS}\n        self.slots = [slots[: lengths[-1]] if decodes else slots for slots in self.slots]",
        ),
    ),
    _attention(
        "attention-ignores-what-was-prefilled-before",
        "JOUR-015",
        (
            _SLOTS,
            "starts = [0 if decodes else length - count for length, count in zip(lengths, new)]\n"
            "        self.slots = [self.table[r, s:n].long() for r, s, n in zip(rows, starts, lengths)]",
        ),
    ),
    _attention(
        "attention-ignores-what-was-prefilled-before-of-latents-alone",
        "JOUR-015",
        (
            _SLOTS,
            "latent = self.pool.get_key_buffer(0).shape[1] == 1\n"
            "        parts = latent and not decodes\n"
            "        starts = [(length - count) * parts for length, count in zip(lengths, new)]\n"
            "        self.slots = [self.table[r, s:n].long() for r, s, n in zip(rows, starts, lengths)]",
        ),
    ),
    _attention(
        "attention-decodes-with-one-more-where-a-page-ends",
        "JOUR-006",
        (
            _SLOTS,
            "more = [forward_batch.forward_mode.is_decode() and length % 16 == 0 for length in lengths]\n"
            "        self.slots = [self.table[r, : n + m].long() for r, n, m in zip(rows, lengths, more)]",
        ),
    ),
    _attention(
        "attention-knows-pages-of-sixteen-only",
        "JOUR-016",
        (
            _SLOTS,
            f"{_SLOTS}\n"
            "        within = torch.arange(16, device=self.table.device)\n"
            "        self.slots = [(s[::16, None] + within).flatten()[: len(s)] for s in self.slots]",
        ),
    ),
    Defect(
        "sampler-gives-requests-the-tokens-of-others",
        "JOUR-017",
        (
            Edit(
                "hooks.py",
                parts.HOOKS,
                f"{parts.HOOKS}"
                '    sampler = "sglang.srt.layers.sampler.Sampler.forward"\n'
                "    HookRegistry.register(sampler, lambda tokens, *args, **kwargs: tokens.flip(0), HookType.AFTER)\n",
            ),
        ),
        deadline=_DEADLINE,
        says=("token 0 of request r0", "the sampler"),
    ),
)
